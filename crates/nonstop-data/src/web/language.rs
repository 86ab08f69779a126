//! The language that a page is asked for in.

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Also for whoever asks for neither.
    English,
    /// Japanese.
    Japanese,
}

impl Language {
    /// What `Accept-Language` prefers.
    pub fn of(accept: Option<&str>) -> Language {
        let weight = |language: &str| {
            let lines = accept.unwrap_or_default().split(',');
            let weights = lines.filter_map(|line| {
                let (tag, rest) = line.split_once(';').unwrap_or((line, ""));
                let primary = tag.trim().split('-').next()?;
                let quality = rest.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.parse().ok());
                primary.eq_ignore_ascii_case(language).then_some(quality.unwrap_or(0.0_f32))
            });
            weights.fold(0.0, f32::max)
        };
        match weight("ja") > weight("en") {
            true => Language::Japanese,
            false => Language::English,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_asked_for_first() {
        for (accept, language) in [
            (None, Language::English),
            (Some("ja"), Language::Japanese),
            (Some("ja-JP,ja;q=0.9,en;q=0.8"), Language::Japanese),
            (Some("en-US,en;q=0.9,ja;q=0.5"), Language::English),
            (Some("fr, ja;q=0.2"), Language::Japanese),
            (Some("ja;q=0"), Language::English),
            (Some(";;;q=,ja;q=x"), Language::English),
        ] {
            assert_eq!(Language::of(accept), language, "{accept:?}");
        }
    }
}
