//! The page and a profile as one file that any browser opens without a server.
//!
//! Style sheets and scripts stand where `index.html` names them. Modules become functions that return what they export: that
//! needs no bundler as long as they import and export in the plain forms that [`as_function`] knows, which a test holds them to.
//! A policy in the file lets exactly these scripts run, by their digests: a name from a profile could run nothing, even if it
//! became a part of the page.

use std::fmt::Write as _;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::page::{self, ASSETS, INDEX_HTML};
use super::page_json::{self, PageMeta};
use super::{EncodeError, WriteOptions};
use crate::profile::Profile;

/// The element that holds the profile.
const DATA: &str = "<script type=\"application/json\" id=\"rprof-data\">";

/// Writes the profile's own value, unless another is asked for.
pub(super) fn write(profile: &Profile, options: &WriteOptions, out: &mut dyn Write) -> Result<(), EncodeError> {
    let column = profile.column(options.value.as_deref())?;
    let mut head = String::new();
    let mut scripts = Vec::new();
    for line in INDEX_HTML.lines() {
        match embedded(line) {
            Some(Embedded::Style(text)) => head.push_str(&format!("<style>\n{text}\n</style>\n")),
            Some(Embedded::Script(text)) => scripts.push(text),
            None => head.push_str(&format!("{line}\n")),
        }
    }
    let (head, tail) = head.split_once("</body>").unwrap_or((&head, ""));
    out.write_all(with_policy(head, &scripts).as_bytes())?;
    out.write_all(DATA.as_bytes())?;
    page_json::write(profile, column, &PageMeta::of(profile, column), out)?;
    out.write_all(b"</script>\n")?;
    for script in scripts {
        writeln!(out, "<script>{script}</script>")?;
    }
    write!(out, "</body>{tail}")?;
    Ok(())
}

enum Embedded {
    Style(&'static str),
    Script(String),
}

/// What a line of the page refers to.
fn embedded(line: &str) -> Option<Embedded> {
    let line = line.trim();
    let between = |start: &str, end: &str| line.strip_prefix(start)?.strip_suffix(end);
    let text = |name: &str| page::asset(name).map(|asset| asset.text);
    if let Some(name) = between("<link rel=\"stylesheet\" href=\"", "\">") {
        return text(name).map(Embedded::Style);
    }
    if between("<script type=\"module\" src=\"", "\"></script>").is_some() {
        return Some(Embedded::Script(joined_modules()));
    }
    let name = between("<script src=\"", "\"></script>")?;
    text(name).map(|text| Embedded::Script(text.to_owned()))
}

/// The page's head with a policy that lets the scripts run, and nothing else.
fn with_policy(head: &str, scripts: &[String]) -> String {
    let digest = |script: &String| format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(script.as_bytes())));
    let digests: String = scripts.iter().map(digest).collect();
    let policy = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src{digests}; \
         style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'\">\n"
    );
    head.replacen("<head>\n", &format!("<head>\n{policy}"), 1)
}

/// All modules as one script.
fn joined_modules() -> String {
    let mut script = String::from("\"use strict\";\n(() => {\n");
    for asset in ASSETS.iter().filter(|asset| is_module(asset.name)) {
        script.push_str(&as_function(asset.name, asset.text));
    }
    script.push_str("})();\n");
    script
}

fn is_module(name: &str) -> bool {
    name.ends_with(".js") && !name.starts_with("vendor/")
}

/// The variable that holds what a module exports.
fn variable(name: &str) -> String {
    let letters = name.trim_start_matches("./").trim_end_matches(".js").chars();
    letters.map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).chain("_module".chars()).collect()
}

/// A module as a call of a function. Known are `import { a, b as c } from "./x.js";` and `import * as a from "./x.js";` in one line
/// each, and `export` before `function`, `async function`, `class` and `const` with one name.
fn as_function(name: &str, text: &str) -> String {
    let mut body = String::new();
    let mut exports: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some((names, from)) = import(line) {
            let taken = match names.strip_prefix("* as ") {
                Some(all) => all.to_owned(),
                None => names.replace(" as ", ": "),
            };
            let _ = writeln!(body, "const {taken} = {};", variable(from));
        } else if let Some(rest) = line.strip_prefix("export ") {
            exports.extend(exported(rest));
            let _ = writeln!(body, "{rest}");
        } else {
            let _ = writeln!(body, "{line}");
        }
    }
    format!("const {} = (() => {{\n{body}return {{ {} }};\n}})();\n", variable(name), exports.join(", "))
}

/// What an import takes, and from where.
fn import(line: &str) -> Option<(&str, &str)> {
    let (names, from) = line.strip_prefix("import ")?.split_once(" from \"")?;
    Some((names, from.strip_suffix("\";")?))
}

/// The name that a declaration gives.
fn exported(declaration: &str) -> Option<&str> {
    let kinds = ["async function ", "function ", "class ", "const "];
    let rest = kinds.iter().find_map(|kind| declaration.strip_prefix(kind))?;
    rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '$').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_keep_to_the_forms_that_are_known() {
        let modules: Vec<_> = ASSETS.iter().filter(|asset| is_module(asset.name)).collect();
        for (at, asset) in modules.iter().enumerate() {
            for line in asset.text.lines() {
                if line.starts_with("import") {
                    let (_, from) = import(line).unwrap_or_else(|| panic!("{}: {line}", asset.name));
                    let known = modules[..at].iter().any(|before| format!("./{}", before.name) == from);
                    assert!(known, "{}: {from} does not stand before it", asset.name);
                }
                if let Some(rest) = line.strip_prefix("export ") {
                    assert!(exported(rest).is_some_and(|name| !name.is_empty()), "{}: {line}", asset.name);
                }
            }
        }
    }

    #[test]
    fn no_script_ends_its_element() {
        let scripts = ASSETS.iter().filter(|asset| asset.name.ends_with(".js"));
        for (name, text) in scripts.map(|asset| (asset.name, asset.text.to_lowercase())) {
            assert!(!text.contains("</script") && !text.contains("<!--"), "{name}");
        }
    }

    #[test]
    fn a_module_becomes_a_function() {
        let text = "import { a, b as c } from \"./other.js\";\nexport const d = 1;\nexport function e() {}\n";
        let expected = "const x_module = (() => {\nconst { a, b: c } = other_module;\nconst d = 1;\nfunction e() {}\nreturn { d, e };\n})();\n";
        assert_eq!(as_function("x.js", text), expected);
    }
}
