//! Names that two builds have in common. Compilers put into a function's name what changes with every build: hashes, numbers of closures
//! and of the parts that a function was split into. Runtimes put in where they keep the code and how well they compiled it.
//!
//! A comparable name is for comparing, not for the linker: closures of one function that differ only by their number become one.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What is replaced in a name.
struct Rule {
    /// A name without this text has nothing to be replaced; looking for it costs a hundredth of the expression.
    hint: &'static str,
    pattern: &'static str,
    replacement: &'static str,
}

/// A rule: its hint, its pattern, its replacement.
const fn rule(hint: &'static str, pattern: &'static str, replacement: &'static str) -> Rule {
    Rule { hint, pattern, replacement }
}

/// In the order in which they are applied.
const RULES: &[Rule] = &[
    // What GCC, LLVM and BOLT append to the parts and copies of a function. Several may follow each other.
    rule(
        ".",
        r"(?x)(?:\.(?: llvm\.[0-9A-Fa-f]+ | __uniq\.[0-9]+ | lto_priv\.[0-9]+ | (?:part|isra|constprop|clone|ipa|simdclone|specialized|localalias|warm|cold|lto_priv|llvm|org)(?:\.[0-9]+)* | str(?:\.[0-9]+)+ ))+(?:\.[0-9]+)*$",
        "",
    ),
    // The same as c++filt and LLVM write it behind a demangled name.
    rule("[", r"(?: \[clone [^\]]*\])+$", ""),
    rule(" (.", r"(?: \(\.[^)]*\))+$", ""),
    // rustc: the hash of its old mangling; the disambiguator of a crate, and the numbers of closures and of impls in the new one.
    rule("::h", r"::h[0-9a-f]{16}$", ""),
    rule("[", r"\b([A-Za-z_][A-Za-z0-9_]*)\[[0-9a-f]{8,16}\]", "$1"),
    rule(
        "#",
        r"\{(closure|impl|shim|constant|extern|coroutine|async_block|async_fn)((?::[a-z_]+)?)#[0-9]+\}",
        "{$1$2}",
    ),
    // C++: lambdas and unnamed types, as GCC's and LLVM's demanglers write them.
    rule("#", r"\{(lambda|unnamed type|unnamed|default arg)(\([^{}]*\))?#[0-9]+\}", "{$1$2}"),
    rule("'", r"'(lambda|unnamed|block-literal)[0-9]+'", "'$1'"),
    rule("$_", r"\$_[0-9]+", "$$_"),
    rule("omp_", r"\.(_?omp_(?:fn|outlined|task_entry|cpyfn))\.*[0-9.]*", ".$1"),
    rule("block_invoke", r"block_invoke(?:_[0-9]+)?(?:\.[0-9]+)?$", "block_invoke"),
    // Go: functions without a name, and what defer and go make of a call; initializers of a package.
    rule(".func", r"\.func[0-9]+(?:\.[0-9]+)*", ".func"),
    rule("wrap", r"\.(deferwrap|gowrap)[0-9]+", ".$1"),
    rule(".init.", r"\.init\.[0-9]+(\.|$)", ".init$1"),
    // V8: how well the code was compiled, where that changes while a program runs, and where the function stands in its file.
    rule(":", r"^(JS|LazyCompile|Function|Eval|Script|Builtin|BytecodeHandler|RegExp):[*~^+]*", "$1:"),
    rule(":", r"(\.[cm]?[jt]sx?|node:[a-z_/]+):[0-9]+(?::[0-9]+)?$", "$1"),
    // Java: lambdas, hidden classes by their address, accessors and proxies by their number.
    rule("Lambda", r"\$\$Lambda(?:\$[0-9]+)?(?:[/.+]0x[0-9a-f]+|/[0-9]+)?", "$$$$Lambda"),
    rule("/0x", r"/0x[0-9a-f]{6,16}", ""),
    rule("lambda$", r"lambda\$([A-Za-z0-9_]+)\$[0-9]+", "lambda$$$1"),
    rule(
        "$",
        r"\b(GeneratedMethodAccessor|GeneratedConstructorAccessor|GeneratedSerializationConstructorAccessor)\$?[0-9]+",
        "$1",
    ),
    rule("Accessor", r"(Generated[A-Za-z]*Accessor)[0-9]+", "$1"),
    rule("$Proxy", r"\$Proxy[0-9]+", "$$Proxy"),
    rule("$", r"([A-Za-z0-9_])\$[0-9]+\b", "$1$$"),
    // .NET: the tier of the code; lambdas, local functions and iterators.
    rule(
        "[",
        r"\[(?:Tier[0-9A-Za-z]*|Optimized[A-Za-z0-9]*|PreJIT|QuickJitted[A-Za-z]*|MinOptJitted|ReadyToRun|Unknown)\]",
        "",
    ),
    rule("__", r"(DisplayClass|b__|g__[A-Za-z0-9_]*\||>d__)[0-9]+(?:_[0-9]+)*", "$1"),
    // PostgreSQL's LLVM code, wasmtime's functions.
    rule("_", r"^(evalexpr|deform)(?:_[0-9]+)+$", "$1"),
    rule("wasm[", r"^wasm\[[0-9]+\]::function\[[0-9]+\]::", "wasm::"),
    // An address stands for a function of no name, and is another one in the next build.
    rule("0x", r"^(.*\+)?0x[0-9a-f]+$", "${1}0x…"),
];

/// The name of a function without what changes from build to build: hashes (`::h0123456789abcdef`, `.llvm.123`), the marks of parts and
/// copies (`.cold`, `.part.0`, `.isra.0`, `.constprop.0`), the numbers of closures and lambdas, tiers and places of code that a runtime
/// made, and addresses in the place of a name.
#[must_use]
pub fn comparable(name: &str) -> Cow<'_, str> {
    #[expect(clippy::unwrap_used, reason = "constants that the tests compile")]
    static REGEXES: LazyLock<Vec<Regex>> =
        LazyLock::new(|| RULES.iter().map(|rule| Regex::new(rule.pattern).unwrap()).collect());
    let mut name = Cow::Borrowed(name);
    for (rule, regex) in RULES.iter().zip(&*REGEXES) {
        if !name.contains(rule.hint) {
            continue;
        }
        if let Cow::Owned(changed) = regex.replace_all(&name, rule.replacement)
            && !changed.is_empty()
        {
            name = Cow::Owned(changed);
        }
    }
    name
}

/// The name of a file of code without its folders: what the same library is called on another machine, or in another folder.
#[must_use]
pub fn comparable_module(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pairs: &[(&str, &str)]) {
        for (name, wanted) in pairs {
            assert_eq!(comparable(name), *wanted, "{name}");
            // What is comparable stays so.
            assert_eq!(comparable(wanted), *wanted, "{wanted}");
        }
    }

    #[test]
    fn parts_and_copies_are_their_function() {
        all(&[
            ("matches_here.cold", "matches_here"),
            ("matches_here.part.0", "matches_here"),
            ("matches_here.part.0.isra.0", "matches_here"),
            ("parse.constprop.0.cold", "parse"),
            ("parse.isra.0.cold.3", "parse"),
            ("f.llvm.12345678901234567", "f"),
            ("init.__uniq.2233445566778899.llvm.99", "init"),
            ("helper.lto_priv.0", "helper"),
            ("helper.lto_priv.12.lto_priv.3", "helper"),
            ("sort.warm", "sort"),
            ("foo(int) [clone .part.0]", "foo(int)"),
            ("foo(int) [clone .isra.0] [clone .cold]", "foo(int)"),
            ("ns::foo(int) (.cold.1)", "ns::foo(int)"),
            ("cold", "cold"),
            ("operator.part", "operator"),
            ("x264_pixel_sad.avx2", "x264_pixel_sad.avx2"),
            ("main._omp_fn.3", "main._omp_fn"),
            ("main.omp_outlined.1", "main.omp_outlined"),
            (".omp_outlined..7", ".omp_outlined"),
            (".cold", ".cold"),
        ]);
    }

    #[test]
    fn rust() {
        all(&[
            ("core::fmt::write::h0123456789abcdef", "core::fmt::write"),
            ("alloc[4d31b6aa1b2c3d4e]::vec::Vec<T>::push", "alloc::vec::Vec<T>::push"),
            ("hot::search::{closure#0}", "hot::search::{closure}"),
            ("hot::search::{{closure}}", "hot::search::{{closure}}"),
            ("hot::{impl#12}::next::{closure#3}::{closure#0}", "hot::{impl}::next::{closure}::{closure}"),
            ("<u8 as core::slice::SpecFill<[u8; 16]>>::fill", "<u8 as core::slice::SpecFill<[u8; 16]>>::fill"),
            (
                "<F as core::ops::FnOnce>::call_once::{shim:vtable#0}",
                "<F as core::ops::FnOnce>::call_once::{shim:vtable}",
            ),
            ("std::rt::lang_start::{{closure}}.llvm.7346153", "std::rt::lang_start::{{closure}}"),
            ("a::hash::h::table", "a::hash::h::table"),
        ]);
    }

    #[test]
    fn c_plus_plus() {
        all(&[
            ("main::{lambda(int)#1}::operator()(int) const", "main::{lambda(int)}::operator()(int) const"),
            ("main::{lambda()#12}::_FUN()", "main::{lambda()}::_FUN()"),
            ("main::$_0::operator()(int) const", "main::$_::operator()(int) const"),
            ("main::'lambda'(int)::operator()(int) const", "main::'lambda'(int)::operator()(int) const"),
            ("main::'lambda3'(int)::operator()(int) const", "main::'lambda'(int)::operator()(int) const"),
            ("f({unnamed type#2})", "f({unnamed type})"),
            ("std::array<int, 16ul>::at(unsigned long)", "std::array<int, 16ul>::at(unsigned long)"),
            ("(anonymous namespace)::run()", "(anonymous namespace)::run()"),
            ("__main_block_invoke_2", "__main_block_invoke"),
        ]);
    }

    #[test]
    fn go() {
        all(&[
            ("main.main.func1", "main.main.func"),
            ("main.(*Server).Run.func2.1.3", "main.(*Server).Run.func"),
            ("main.Run.func3.gowrap1", "main.Run.func.gowrap"),
            ("main.Run.deferwrap2", "main.Run.deferwrap"),
            ("glob..func12", "glob..func"),
            ("main.init.0", "main.init"),
            ("main.init.3.func1", "main.init.func"),
            ("net/http.(*conn).serve", "net/http.(*conn).serve"),
            ("slices.SortFunc[go.shape.[]int,go.shape.int]", "slices.SortFunc[go.shape.[]int,go.shape.int]"),
        ]);
    }

    #[test]
    fn code_that_a_runtime_made() {
        all(&[
            ("JS:*render /srv/app/view.js:120:17", "JS:render /srv/app/view.js"),
            ("JS:~render /srv/app/view.js:124:17", "JS:render /srv/app/view.js"),
            ("LazyCompile:^tick node:internal/timers:480:9", "LazyCompile:tick node:internal/timers"),
            ("Foo$$Lambda$14/0x0000000800066840.apply", "Foo$$Lambda.apply"),
            ("Foo$$Lambda/0x00007f1c0c0a2b40.apply", "Foo$$Lambda.apply"),
            ("java.lang.invoke.LambdaForm$MH/0x00000008000c1000.invoke", "java.lang.invoke.LambdaForm$MH.invoke"),
            ("com.acme.Job.lambda$run$0", "com.acme.Job.lambda$run"),
            (
                "jdk.internal.reflect.GeneratedMethodAccessor42.invoke",
                "jdk.internal.reflect.GeneratedMethodAccessor.invoke",
            ),
            ("com.sun.proxy.$Proxy17.get", "com.sun.proxy.$Proxy.get"),
            ("com.acme.Job$1.run", "com.acme.Job$.run"),
            ("com.acme.Job$Inner.run", "com.acme.Job$Inner.run"),
            ("instance void [app] App.Job::Run()[OptimizedTier1]", "instance void [app] App.Job::Run()"),
            ("App.Job+<>c__DisplayClass3_0::<Run>b__1(int32)[Tier0]", "App.Job+<>c__DisplayClass::<Run>b__(int32)"),
            ("evalexpr_12_3", "evalexpr"),
            ("wasm[0]::function[412]::run", "wasm::run"),
            ("py::compute:/srv/app/job.py", "py::compute:/srv/app/job.py"),
        ]);
    }

    #[test]
    fn addresses_are_no_names() {
        all(&[
            ("libfoo.so.1+0x4f2a", "libfoo.so.1+0x…"),
            ("0x7f0012345678", "0x…"),
            ("[anon]", "[anon]"),
            ("parse_0x10", "parse_0x10"),
            ("", ""),
        ]);
    }

    #[test]
    fn modules_are_files() {
        assert_eq!(comparable_module("/usr/lib/libc.so.6"), "libc.so.6");
        assert_eq!(comparable_module("/srv/app (deleted)"), "app");
        assert_eq!(comparable_module("[kernel.kallsyms]"), "[kernel.kallsyms]");
    }
}
