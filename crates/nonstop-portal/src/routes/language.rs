//! Choosing the language: kept in a cookie.

use crate::{
    error::{PageError, PageResult},
    form::Fields,
    lang::{COOKIE, Lang},
    page::see_other,
};
use axum::http::{HeaderValue, header};

pub(crate) async fn choose(fields: Fields) -> PageResult {
    let lang = Lang::named(fields.get("to")).ok_or(PageError::Bad)?;
    let mut response = see_other(back(fields.get("back")))?;
    let line =
        format!("{COOKIE}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict", lang.code());
    let line = HeaderValue::try_from(line).map_err(|_| PageError::Unexpected)?;
    response.headers_mut().append(header::SET_COOKIE, line);
    Ok(response)
}

/// The page to go back to: a path of ours, whatever the form says.
fn back(text: &str) -> &str {
    let second = text.as_bytes().get(1);
    let ours = text.starts_with('/')
        && !matches!(second, Some(b'/' | b'\\'))
        && text.bytes().all(|b| b.is_ascii_graphic());
    if ours { text } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_never_leads_elsewhere() {
        assert_eq!(back("/requests?x=1"), "/requests?x=1");
        for bad in
            ["//evil.example", "/\\evil.example", "http://evil.example", "", "/a\r\nb: c", "/\t/e"]
        {
            assert_eq!(back(bad), "/", "{bad:?}");
        }
    }
}
