//! What a reviewer sees.

use crate::{
    lab::{TestLab, open},
    made::png,
};
use nonstop_api::PreviewView;
use nonstopd::screening::{Preview, Screener};

fn preview(bytes: &[u8]) -> Preview {
    let lab = TestLab::new();
    let path = lab.write("file", bytes);
    lab.screener().preview(open(&path))
}

#[test]
fn a_picture_is_scaled_and_encoded_anew_without_what_else_was_in_it() {
    let mut file = png(3000, 1500);
    file.extend(b"<script>alert(1)</script>");
    let shown = preview(&file);
    assert_eq!(shown.view, PreviewView::Picture { width: 3000, height: 1500 });
    let png = shown.png.expect("a picture");
    assert_eq!(&png[16..24], [0, 0, 4, 0, 0, 0, 2, 0], "1024 x 512");
    assert!(!png.windows(8).any(|part| part == b"<script>"));
}

#[test]
fn texts_are_decoded_and_nothing_turns_their_direction() {
    let PreviewView::Text { encoding, text, cut } = preview(b"\x93\xfa\x96\x7b\x8c\xea\n").view
    else {
        panic!("a text")
    };
    assert_eq!((encoding.as_str(), text.as_str(), cut), ("shift_jis", "日本語\n", false));
    let odd = "<b>a\u{202e}txt\u{200b}\u{1b}[2J".as_bytes();
    let PreviewView::Text { text, .. } = preview(odd).view else { panic!("a text") };
    assert_eq!(text, "<b>a\u{fffd}txt\u{fffd}\u{fffd}[2J");
    let long = "長い文".repeat(60_000);
    let PreviewView::Text { text, cut, .. } = preview(long.as_bytes()).view else {
        panic!("a text")
    };
    assert!(cut && text.len() <= 64 << 10 && long.starts_with(&text), "{}", text.len());
}

#[test]
fn tables_are_cut_into_cells_within_bounds() {
    let line = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join("\t");
    let PreviewView::Table { rows, cut } = preview(format!("{line}\n").repeat(500).as_bytes()).view
    else {
        panic!("a table")
    };
    assert_eq!((rows.len(), rows[99].len(), cut), (100, 30, true));
}

#[test]
fn anything_else_shows_its_first_bytes() {
    let shown = preview(&[0, 1, 2, 255]);
    assert_eq!(shown, Preview { view: PreviewView::Bytes { hex: "000102ff".into() }, png: None });
    let PreviewView::Bytes { hex } = preview(b"%PDF-1.4 anything").view else { panic!("bytes") };
    assert!(hex.starts_with("255044462d"));
}
