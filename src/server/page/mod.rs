//! The page at `/`: four files in the binary, and the headers that keep it harmless. It asks the REST interface like
//! any other client, so nothing here knows a job.

use super::http::{Answer, Head, Reply};
use super::rest::status::problem;
use tiny_http::Method;

/// Path, type and text of each file.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/page.svg", "image/svg+xml", include_str!("page.svg")),
];

/// Its own files and its own server, and nothing inline; in no frame of anybody's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// As it stands in the table, where the path is one of them.
pub fn template(path: &str) -> Option<&'static str> {
    FILES.iter().map(|(known, _, _)| *known).find(|known| *known == path)
}

/// To whoever asks, key or not: there is no secret in it.
pub fn answer(head: &Head) -> Reply {
    let Some((_, content_type, text)) = FILES.iter().find(|(path, _, _)| *path == head.path) else {
        return problem(404, "there is nothing here").into();
    };
    if !matches!(head.method, Method::Get | Method::Head) {
        let why = format!("{} does nothing here: allowed is GET", head.method);
        return problem(405, &why).with("Allow", "GET").into();
    }
    let answer = Answer::text(content_type, (*text).to_owned());
    [
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        // A new version of the server is a new page.
        ("Cache-Control", "no-cache"),
    ]
    .into_iter()
    .fold(answer, |answer, (name, value)| answer.with(name, value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a phone on a bad line can bear.
    #[test]
    fn the_page_is_small_and_has_nothing_inline() {
        let bytes: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(bytes <= 60_000, "{bytes}");
        let html = FILES[0].2;
        for inline in [" style=", " onclick=", "<style", "javascript:", "http-equiv"] {
            assert!(!html.contains(inline), "{inline}");
        }
        assert!(!FILES[1].2.contains("innerHTML") && !FILES[1].2.contains("eval("));
    }
}
