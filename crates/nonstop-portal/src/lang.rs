//! Which language a visitor reads: what they chose, else what their browser asks for.

use crate::texts::{ENGLISH, JAPANESE, Texts, samples, transfers};
use axum::http::{HeaderMap, header};

/// The cookie that keeps a visitor's choice.
pub(crate) const COOKIE: &str = "nonstop-language";

/// A language of the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lang {
    /// English.
    En,
    /// Japanese.
    Ja,
}

impl Lang {
    /// The visitor's choice by cookie, else the first known of `Accept-Language`, else English.
    pub(crate) fn of(headers: &HeaderMap) -> Lang {
        cookie(headers, COOKIE)
            .and_then(Lang::named)
            .or_else(|| headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok().and_then(accepted))
            .unwrap_or(Lang::En)
    }

    /// The language of the code `en` or `ja`.
    pub(crate) fn named(code: &str) -> Option<Lang> {
        match code {
            "en" => Some(Lang::En),
            "ja" => Some(Lang::Ja),
            _ => None,
        }
    }

    /// Its code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Lang::En => "en",
            Lang::Ja => "ja",
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Lang {
        match self {
            Lang::En => Lang::Ja,
            Lang::Ja => Lang::En,
        }
    }

    /// Its texts.
    pub(crate) fn texts(self) -> &'static Texts {
        match self {
            Lang::En => &ENGLISH,
            Lang::Ja => &JAPANESE,
        }
    }
}

impl Lang {
    /// Its texts of samples.
    pub(crate) fn sample_texts(self) -> &'static samples::Texts {
        match self {
            Lang::En => &samples::ENGLISH,
            Lang::Ja => &samples::JAPANESE,
        }
    }

    /// Its texts of files on their way in and out.
    pub(crate) fn transfer_texts(self) -> &'static transfers::Texts {
        match self {
            Lang::En => &transfers::ENGLISH,
            Lang::Ja => &transfers::JAPANESE,
        }
    }
}

/// The cookie `name` of a request.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

/// The known language that `Accept-Language` weighs highest.
fn accepted(line: &str) -> Option<Lang> {
    let ranges = line.split(',').filter_map(|range| {
        let mut parts = range.trim().split(';');
        let lang = Lang::named(parts.next()?.split('-').next()?.to_ascii_lowercase().as_str())?;
        let weight = parts
            .find_map(|p| p.trim().strip_prefix("q="))
            .map_or(Some(1.0), |q| q.parse::<f32>().ok().filter(|q| q.is_finite()))?;
        (weight > 0.0).then_some((lang, weight))
    });
    // The first of equals wins.
    ranges.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(lang, _)| lang)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lang(pairs: &[(header::HeaderName, &str)]) -> Lang {
        let headers = pairs.iter().map(|(n, v)| (n.clone(), v.parse().expect("a value")));
        Lang::of(&headers.collect())
    }

    #[test]
    fn the_browsers_weights_count_and_a_choice_beats_them() {
        let accept = header::ACCEPT_LANGUAGE;
        assert_eq!(lang(&[(accept.clone(), "ja,en-US;q=0.9,en;q=0.8")]), Lang::Ja);
        assert_eq!(lang(&[(accept.clone(), "de, ja;q=0.3, en-GB;q=0.8")]), Lang::En);
        assert_eq!(lang(&[(accept.clone(), "de;q=1, ja;q=0")]), Lang::En);
        let chosen = (header::COOKIE, "a=b; nonstop-language=en");
        assert_eq!(lang(&[(accept, "ja"), chosen]), Lang::En);
    }
}
