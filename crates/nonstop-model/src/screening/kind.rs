//! What a file is by its content. The program that looks names it; here stands what each is called
//! by people, by which endings names announce it, and to which group of `lab.yaml` it belongs.

use super::{Verdict, Words};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of kinds with one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Text that nothing runs.
    Text,
    /// Pictures.
    Picture,
    /// What office programs and typesetters make.
    Document,
    /// Numbers and tables of programs.
    Data,
    /// Sound and film.
    Media,
    /// Text that a browser runs.
    Web,
    /// Text that an interpreter runs.
    Script,
    /// Programs.
    Executable,
    /// Files that start something else when they are opened.
    Shortcut,
    /// Captured traffic.
    Capture,
    /// Containers of other files, and compressed ones.
    Archive,
    /// Private keys.
    Key,
    /// What nobody can look into.
    Encrypted,
    /// Everything else.
    Unknown,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 14] = [
        Group::Text,
        Group::Picture,
        Group::Document,
        Group::Data,
        Group::Media,
        Group::Web,
        Group::Script,
        Group::Executable,
        Group::Shortcut,
        Group::Capture,
        Group::Archive,
        Group::Key,
        Group::Encrypted,
        Group::Unknown,
    ];

    /// Its word in `lab.yaml`.
    pub fn word(self) -> &'static str {
        match self {
            Group::Text => "text",
            Group::Picture => "picture",
            Group::Document => "document",
            Group::Data => "data",
            Group::Media => "media",
            Group::Web => "web",
            Group::Script => "script",
            Group::Executable => "executable",
            Group::Shortcut => "shortcut",
            Group::Capture => "capture",
            Group::Archive => "archive",
            Group::Key => "key",
            Group::Encrypted => "encrypted",
            Group::Unknown => "unknown",
        }
    }

    /// What happens to its kinds where `lab.yaml` says nothing.
    pub fn shipped(self) -> Verdict {
        match self {
            Group::Text | Group::Picture | Group::Document => Verdict::Pass,
            Group::Data
            | Group::Media
            | Group::Web
            | Group::Script
            | Group::Capture
            | Group::Archive
            | Group::Key
            | Group::Unknown => Verdict::Hold,
            Group::Executable | Group::Shortcut | Group::Encrypted => Verdict::Block,
        }
    }
}

/// What a file is by its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Kind(usize);

struct Row {
    word: &'static str,
    group: Group,
    /// Whether files of this kind are compressed by nature.
    dense: bool,
    /// Endings of names that announce it.
    endings: &'static str,
    en: &'static str,
    ja: &'static str,
}

const fn row(
    word: &'static str,
    group: Group,
    dense: bool,
    endings: &'static str,
    en: &'static str,
    ja: &'static str,
) -> Row {
    Row { word, group, dense, endings, en, ja }
}

use Group::{
    Archive, Capture, Data, Document, Encrypted, Executable, Key, Media, Picture, Script, Shortcut,
    Text, Unknown, Web,
};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("unknown", Unknown, false, "", "of no type that is known", "種類を判別できないデータ"),
    row("empty", Text, false, "", "empty", "空のファイル"),
    row("text", Text, false, "txt text csv tsv md rst log json jsonl yaml yml toml ini conf cfg tex bib dot", "text", "テキスト"),
    row("xml", Text, false, "xml xsd xsl rng gexf graphml", "an XML text", "XML テキスト"),
    row("rtf", Document, false, "rtf", "an RTF document", "RTF 文書"),
    row("png", Picture, true, "png", "a PNG picture", "PNG 画像"),
    row("jpeg", Picture, true, "jpg jpeg jpe jfif", "a JPEG picture", "JPEG 画像"),
    row("gif", Picture, true, "gif", "a GIF picture", "GIF 画像"),
    row("webp", Picture, true, "webp", "a WebP picture", "WebP 画像"),
    row("bmp", Picture, false, "bmp dib", "a BMP picture", "BMP 画像"),
    row("tiff", Picture, true, "tif tiff", "a TIFF picture", "TIFF 画像"),
    row("ico", Picture, true, "ico cur", "an icon", "アイコン"),
    row("pdf", Document, true, "pdf", "a PDF document", "PDF 文書"),
    row("postscript", Script, false, "ps eps", "a PostScript program", "PostScript"),
    row("docx", Document, true, "docx dotx", "a Word document", "Word 文書"),
    row("xlsx", Document, true, "xlsx xltx", "an Excel workbook", "Excel ブック"),
    row("pptx", Document, true, "pptx potx ppsx", "a PowerPoint presentation", "PowerPoint プレゼンテーション"),
    row("ooxml-macro", Script, true, "docm xlsm pptm dotm xltm potm ppsm xlsb", "an office document with macros", "マクロを含む Office 文書"),
    row("odf", Document, true, "odt ods odp odg odf ott ots otp", "an OpenDocument file", "OpenDocument 文書"),
    row("epub", Document, true, "epub", "an EPUB book", "EPUB 文書"),
    row("ole", Data, true, "doc xls ppt dot xlt pot pps vsd msg mpp", "an office document of the old format, which may hold macros", "マクロを含みうる旧形式の Office 文書"),
    row("msi", Executable, true, "msi msp", "a Windows installer", "Windows インストーラー"),
    row("npy", Data, false, "npy", "an array of NumPy", "NumPy 配列"),
    row("sqlite", Data, false, "sqlite sqlite3 db db3", "an SQLite database", "SQLite データベース"),
    row("hdf5", Data, true, "h5 hdf5 hdf nc mat", "an HDF5 file", "HDF5 ファイル"),
    row("parquet", Data, true, "parquet", "a Parquet file", "Parquet ファイル"),
    row("pickle", Executable, true, "pkl pickle", "a Python pickle, which runs code when it is opened", "開くとコードを実行する Python pickle"),
    row("font", Data, true, "ttf otf ttc woff woff2", "a font", "フォント"),
    row("flash", Executable, true, "swf", "a Flash film", "Flash ムービー"),
    row("wav", Media, false, "wav", "sound", "音声"),
    row("media", Media, true, "mp3 mp4 m4a m4v mov ogg oga ogv opus flac mkv webm avi mpg mpeg wmv wma aac", "sound or film", "音声または動画"),
    row("html", Web, false, "html htm xhtml mht mhtml", "an HTML page", "HTML ページ"),
    row("svg", Web, false, "svg", "an SVG picture, which may hold scripts", "スクリプトを含みうる SVG 画像"),
    row("script", Script, false, "sh bash zsh ksh csh fish pl py rb ps1 psm1 psd1 ps1xml bat cmd vbs vbe js jse mjs wsf wsh wsc sct hta reg php lua tcl awk", "a script", "スクリプト"),
    row("elf", Executable, false, "elf so o ko", "a Linux program", "Linux プログラム (ELF)"),
    row("pe", Executable, false, "exe dll sys scr com cpl ocx efi drv", "a Windows program", "Windows プログラム (PE)"),
    row("mach-o", Executable, false, "dylib", "a macOS program", "macOS プログラム (Mach-O)"),
    row("java", Executable, false, "class", "a Java class", "Java クラス"),
    row("dex", Executable, false, "dex odex", "an Android program", "Android プログラム (DEX)"),
    row("wasm", Executable, false, "wasm", "a WebAssembly program", "WebAssembly プログラム"),
    row("pyc", Executable, false, "pyc pyo", "a compiled Python program", "コンパイル済み Python プログラム"),
    row("lnk", Shortcut, false, "lnk", "a Windows shortcut", "Windows ショートカット"),
    row("url", Shortcut, false, "url website desktop webloc", "an internet shortcut", "インターネットショートカット"),
    row("chm", Executable, true, "chm", "a Windows help file", "Windows ヘルプファイル"),
    row("pcap", Capture, false, "pcap cap dmp", "captured traffic (pcap)", "パケットキャプチャー (pcap)"),
    row("pcapng", Capture, false, "pcapng ntar", "captured traffic (pcapng)", "パケットキャプチャー (pcapng)"),
    row("minidump", Capture, false, "mdmp", "a memory dump", "メモリーダンプ"),
    row("zip", Archive, true, "zip", "a ZIP archive", "ZIP アーカイブ"),
    row("jar", Executable, true, "jar apk war ear ipa xpi", "an archive of programs", "プログラムを含むアーカイブ (JAR)"),
    row("7z", Archive, true, "7z", "a 7z archive", "7z アーカイブ"),
    row("rar", Archive, true, "rar", "a RAR archive", "RAR アーカイブ"),
    row("tar", Archive, false, "tar", "a tar archive", "tar アーカイブ"),
    row("gzip", Archive, true, "gz tgz svgz", "a file compressed by gzip", "gzip 圧縮ファイル"),
    row("bzip2", Archive, true, "bz2 tbz tbz2", "a file compressed by bzip2", "bzip2 圧縮ファイル"),
    row("xz", Archive, true, "xz txz lzma", "a file compressed by xz", "xz 圧縮ファイル"),
    row("zstd", Archive, true, "zst tzst", "a file compressed by zstd", "zstd 圧縮ファイル"),
    row("lz4", Archive, true, "lz4", "a file compressed by lz4", "lz4 圧縮ファイル"),
    row("compress", Archive, true, "z lzo", "a compressed file", "圧縮ファイル"),
    row("cab", Archive, true, "cab", "a CAB archive", "CAB アーカイブ"),
    row("lzh", Archive, true, "lzh lha", "an LZH archive", "LZH アーカイブ"),
    row("arj", Archive, true, "arj ace", "an archive", "アーカイブ"),
    row("cpio", Archive, false, "cpio", "a cpio archive", "cpio アーカイブ"),
    row("ar", Archive, true, "a deb ar", "an ar archive", "ar アーカイブ"),
    row("rpm", Archive, true, "rpm", "an RPM package", "RPM パッケージ"),
    row("squashfs", Archive, true, "squashfs snap", "a SquashFS image", "SquashFS イメージ"),
    row("iso", Archive, true, "iso", "an image of a disc", "ディスクイメージ (ISO)"),
    row("disk", Archive, true, "qcow2 vmdk vhd vhdx vdi dmg img", "an image of a disk", "ディスクイメージ"),
    row("private-key", Key, false, "key pem p8", "a private key", "秘密鍵"),
    row("keystore", Encrypted, true, "p12 pfx jks keystore", "a store of keys", "鍵ストア"),
    row("encrypted-key", Encrypted, false, "", "an encrypted private key", "暗号化された秘密鍵"),
    row("pgp", Encrypted, true, "gpg pgp asc", "a PGP message", "PGP 暗号文"),
    row("age", Encrypted, true, "age", "encrypted by age", "age で暗号化されたファイル"),
    row("openssl", Encrypted, true, "enc", "encrypted by openssl", "openssl で暗号化されたファイル"),
    row("luks", Encrypted, true, "luks", "an encrypted disk (LUKS)", "暗号化ディスク (LUKS)"),
    row("bitlocker", Encrypted, true, "", "an encrypted disk (BitLocker)", "暗号化ディスク (BitLocker)"),
    row("keepass", Encrypted, true, "kdbx kdb", "a KeePass database", "KeePass データベース"),
    row("gocryptfs", Encrypted, false, "", "the key of a gocryptfs folder", "gocryptfs の鍵ファイル"),
    row("encfs", Encrypted, false, "", "the key of an EncFS folder", "EncFS の鍵ファイル"),
    row("aescrypt", Encrypted, true, "aes", "encrypted by AES Crypt", "AES Crypt で暗号化されたファイル"),
    row("vault", Encrypted, false, "vault", "encrypted by Ansible Vault", "Ansible Vault で暗号化されたファイル"),
    row("vimcrypt", Encrypted, true, "", "encrypted by vim", "vim で暗号化されたファイル"),
    row("cms", Encrypted, true, "p7m p7e", "an encrypted mail or CMS message", "暗号化メール (CMS/S/MIME)"),
];

impl Kind {
    /// Nothing that is known.
    pub const UNKNOWN: Kind = Kind(0);

    /// The one of this word.
    pub fn named(word: &str) -> Option<Kind> {
        ROWS.iter().position(|row| row.word == word).map(Kind)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Kind> {
        (0..ROWS.len()).map(Kind)
    }

    fn row(self) -> &'static Row {
        &ROWS[self.0]
    }

    /// Its word in `lab.yaml` and in records.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The group it belongs to.
    pub fn group(self) -> Group {
        self.row().group
    }

    /// Whether files of this kind are compressed by nature, so that their density tells nothing.
    pub fn is_dense(self) -> bool {
        self.row().dense
    }

    /// What it is called between programs, such as `image/png`.
    pub fn content_type(self) -> &'static str {
        match self.word() {
            "text" | "script" | "private-key" | "encrypted-key" | "vault" => "text/plain",
            "xml" => "text/xml",
            "html" => "text/html",
            "svg" => "image/svg+xml",
            "rtf" => "application/rtf",
            "png" => "image/png",
            "jpeg" => "image/jpeg",
            "gif" => "image/gif",
            "webp" => "image/webp",
            "bmp" => "image/bmp",
            "tiff" => "image/tiff",
            "ico" => "image/vnd.microsoft.icon",
            "pdf" => "application/pdf",
            "postscript" => "application/postscript",
            "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            "epub" => "application/epub+zip",
            "wav" => "audio/wav",
            "zip" => "application/zip",
            "gzip" => "application/gzip",
            "7z" => "application/x-7z-compressed",
            "tar" => "application/x-tar",
            "pcap" => "application/vnd.tcpdump.pcap",
            "sqlite" => "application/vnd.sqlite3",
            "pgp" => "application/pgp-encrypted",
            _ => "application/octet-stream",
        }
    }

    /// What people call it.
    pub fn called(self) -> Words {
        Words { en: self.row().en.into(), ja: self.row().ja.into() }
    }

    /// Whether a file of this kind may end as `name` does: an ending that is known is one of its own.
    pub fn fits(self, name: &str) -> bool {
        let Some(ending) = ending(name) else { return true };
        let has = |row: &Row| row.endings.split(' ').any(|known| known == ending);
        let source = self.by_name(name).is_some();
        has(self.row()) || source || self.also(&ending) || !ROWS.iter().any(has)
    }

    /// What a text of a neutral kind is by the ending of `name`: a script, if it is one of a script's.
    pub fn by_name(self, name: &str) -> Option<Kind> {
        if self.group() != Group::Text {
            return None;
        }
        // Windows leaves out dots and spaces at the end, and minds no name in front.
        let name = name.trim_end_matches(['.', ' ']).to_ascii_lowercase();
        let (_, ending) = name.rsplit_once('.')?;
        let script = ROWS.iter().position(|row| row.word == "script")?;
        ROWS[script].endings.split(' ').any(|known| known == ending).then_some(Kind(script))
    }

    /// Endings of other kinds that its files bear by habit.
    fn also(self, ending: &str) -> bool {
        match self.word() {
            "script" | "xml" | "html" | "svg" => {
                matches!(ending, "txt" | "text" | "md" | "log" | "xml" | "json")
            }
            "text" => matches!(ending, "key" | "pem" | "asc" | "desktop" | "db" | "xml" | "mat"),
            "private-key" | "encrypted-key" => matches!(ending, "txt" | "key" | "pem"),
            "pcapng" => ending == "pcap" || ending == "cap",
            "zip" => matches!(ending, "npz"),
            _ => false,
        }
    }
}
/// What stands behind the last dot of a name, in small letters.
fn ending(name: &str) -> Option<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let (stem, ending) = last.rsplit_once('.')?;
    let plain = !stem.is_empty() && !ending.is_empty() && ending.len() <= 12;
    plain.then(|| ending.to_ascii_lowercase())
}

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.word().into()
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Kind::named(&word).ok_or_else(|| "there is no such kind of file".into())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_used_once_and_no_kind_has_the_word_of_another_group() {
        let words: BTreeSet<_> = Kind::all().map(Kind::word).collect();
        assert_eq!(words.len(), ROWS.len());
        for group in Group::ALL {
            let same = Kind::named(group.word());
            assert!(same.is_none_or(|kind| kind.group() == group), "{}", group.word());
        }
    }

    #[test]
    fn a_name_that_announces_another_kind_does_not_fit() {
        let kind = |word| Kind::named(word).expect("known");
        for (word, name) in [
            ("png", "a.png"),
            ("png", "a.PNG"),
            ("png", "plot"),
            ("png", "plot.v2"),
            ("text", "a.py"),
            ("text", "結果.csv"),
            ("script", "run.txt"),
            ("jpeg", "x/y.d/a.jpeg"),
            ("text", ".profile"),
            ("zip", "a.npz"),
        ] {
            assert!(kind(word).fits(name), "{word} {name}");
        }
        for (word, name) in [
            ("zip", "a.png"),
            ("pe", "a.txt"),
            ("text", "a.png"),
            ("elf", "report.pdf"),
            ("zip", "a.docx"),
            ("png", "a.csv"),
            ("png", "archive.tar/a.jpg"),
        ] {
            assert!(!kind(word).fits(name), "{word} {name}");
        }
    }
}
