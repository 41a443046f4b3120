//! The page: what a browser is given, embedded in the binary. Modules of the language itself, no bundler, nothing from elsewhere.
//!
//! `page/index.html` names the style sheets and scripts; each is served under its own name, or all are joined into one file
//! (the format `html`).

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its path, relative to the page's.
    pub name: &'static str,
    /// What it is, as a header of HTTP tells it.
    pub content_type: &'static str,
    /// Its content.
    pub text: &'static str,
}

/// The page itself.
pub const INDEX_HTML: &str = include_str!("page/index.html");

/// The `Content-Security-Policy` of the served page: only what the server itself has, and nothing inline.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! assets {
    ($($name:literal $kind:ident,)*) => {
        &[$(Asset { name: $name, content_type: $kind, text: include_str!(concat!("page/", $name)) },)*]
    };
}

/// All files of the page. A module stands behind those that it imports.
pub static ASSETS: &[Asset] = assets! {
    "index.html" HTML,
    "style.css" CSS,
    "vendor/uplot.min.css" CSS,
    "vendor/uplot.min.js" JAVASCRIPT,
    "vendor/uplot.LICENSE" TEXT,
    "format.js" JAVASCRIPT,
    "dom.js" JAVASCRIPT,
    "model.js" JAVASCRIPT,
    "colors.js" JAVASCRIPT,
    "state.js" JAVASCRIPT,
    "source.js" JAVASCRIPT,
    "compare.js" JAVASCRIPT,
    "flame.js" JAVASCRIPT,
    "timeline.js" JAVASCRIPT,
    "heatmap.js" JAVASCRIPT,
    "table.js" JAVASCRIPT,
    "details.js" JAVASCRIPT,
    "quality.js" JAVASCRIPT,
    "export.js" JAVASCRIPT,
    "keyboard.js" JAVASCRIPT,
    "dialog.js" JAVASCRIPT,
    "filters.js" JAVASCRIPT,
    "theme.js" JAVASCRIPT,
    "app.js" JAVASCRIPT,
    "main.js" JAVASCRIPT,
};

/// The file of a name; that of the empty name is the page itself.
#[must_use]
pub fn asset(name: &str) -> Option<&'static Asset> {
    let name = if name.is_empty() { "index.html" } else { name };
    ASSETS.iter().find(|asset| asset.name == name)
}
