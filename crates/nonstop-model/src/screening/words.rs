//! What people read of a finding: what it is, in one sentence, and how to mend it.

use super::{Group, Kind, RuleId, Verdict, Words};

type Said = (Words, Words);

fn words(en: impl Into<String>, ja: impl Into<String>) -> Words {
    Words { en: en.into(), ja: ja.into() }
}

/// Which bound a file goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    File,
    Day,
    Period,
}

pub(super) fn protected() -> Said {
    (
        words(
            "the file is one of the lab's protected resources, byte for byte",
            "研究室の保護対象データとバイト単位で一致します",
        ),
        words(
            "the lab's data stay in the lab: export results of your own work instead",
            "研究室のデータは持ち出せません。ご自身の解析結果を書き出してください",
        ),
    )
}

pub(super) fn size(bound: Bound, bytes: u64, limit: u64) -> Said {
    let (bytes, limit) = (mib(bytes), mib(limit));
    let says = match bound {
        Bound::File => words(
            format!("the file has {bytes} MiB, and one export may have {limit}"),
            format!("ファイルの大きさは {bytes} MiB で、1 件の上限 {limit} MiB を超えています"),
        ),
        Bound::Day => words(
            format!(
                "with this file {bytes} MiB were given for export today, those that wait included, \
                 and a day has {limit}"
            ),
            format!(
                "このファイルと確認待ちのものを含めて本日 {bytes} MiB となり、1 日の上限 {limit} MiB を超えます"
            ),
        ),
        Bound::Period => words(
            format!(
                "with this file {bytes} MiB were given for export, those that wait included, and \
                 the whole period has {limit}"
            ),
            format!(
                "このファイルと確認待ちのものを含めて合計 {bytes} MiB となり、期間全体の上限 {limit} MiB を超えます"
            ),
        ),
    };
    let mend = words(
        "export less (a summary, a part, fewer columns), or ask the lab's staff",
        "要約や一部だけにするなど量を減らすか、担当者にご相談ください",
    );
    (says, mend)
}

/// Rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

pub(super) fn name() -> Said {
    (
        words(
            "the name holds characters that cannot be seen or that turn others round",
            "名前に見えない文字、または文字の向きを変える文字が含まれています",
        ),
        words(
            "rename the file with letters that can be seen",
            "見える文字だけの名前に変更してください",
        ),
    )
}

pub(super) fn kind(kind: Kind, verdict: Verdict) -> Said {
    let called = kind.called();
    let says = match verdict {
        Verdict::Block => words(
            format!("by its content the file is {}, and such files do not leave", called.en),
            format!("内容は{}です。この種類は持ち出せません", called.ja),
        ),
        Verdict::Hold | Verdict::Pass => words(
            format!("by its content the file is {}, and a person looks at such files", called.en),
            format!("内容は{}です。この種類は担当者が確認します", called.ja),
        ),
    };
    let mend = match kind.group() {
        Group::Key => words(
            "export no private keys; a public key will do",
            "秘密鍵は書き出さず、公開鍵を使ってください",
        ),
        Group::Capture => words(
            "export what you found in the packets: counts, tables, pictures",
            "パケットそのものではなく、集計・表・図を書き出してください",
        ),
        Group::Executable | Group::Script | Group::Shortcut => words(
            "export results as text, tables, pictures or PDF; programs stay in the lab",
            "結果をテキスト・表・画像・PDF で書き出してください",
        ),
        _ => words(
            "save it as text, CSV, PNG, JPEG, PDF or an office document",
            "テキスト・CSV・PNG・JPEG・PDF・Office 文書で保存し直してください",
        ),
    };
    (says, mend)
}

pub(super) fn archive(kind: Kind) -> Said {
    let called = kind.called();
    (
        words(
            format!("by its content the file is {}, which holds others", called.en),
            format!("内容は{}で、中に別のファイルを含みます", called.ja),
        ),
        words(
            "unpack it and export its files one by one, which is faster",
            "展開し、ファイルを個別に書き出してください (その方が早く届きます)",
        ),
    )
}

pub(super) fn compressed(pieces: u64) -> Said {
    (
        words(
            format!("{pieces} pieces of 64 KiB look compressed or encrypted"),
            format!("圧縮または暗号化されたとみられる部分が 64 KiB 単位で {pieces} 個あります"),
        ),
        words(
            "export it uncompressed, in a format whose content can be read",
            "圧縮せず、内容を読み取れる形式で書き出してください",
        ),
    )
}

pub(super) fn appended(what: &Words) -> Said {
    (
        what.clone(),
        words(
            "open it and save it anew, so that nothing but the picture is in it",
            "開いて保存し直し、画像以外を含まないようにしてください",
        ),
    )
}

pub(super) fn malformed(what: &Words) -> Said {
    (
        what.clone(),
        words(
            "open it in a program that shows it and save it anew, or export it in another format",
            "表示できるソフトで開いて保存し直すか、別の形式で書き出してください",
        ),
    )
}

pub(super) fn named_script() -> Said {
    (
        words(
            "by its name the file is a script, which runs when it is opened",
            "名前の拡張子から、開くと実行されるスクリプトとみなされます",
        ),
        words(
            "export results as text, tables, pictures or PDF; of a source, wait for the lab's staff",
            "結果をテキスト・表・画像・PDF で書き出してください。ソースコードは担当者の確認をお待ちください",
        ),
    )
}

pub(super) fn encrypted(what: &Words) -> Said {
    (
        words(
            format!("nobody can look into it: it is {}", what.en),
            format!("内容を確認できません: {}", what.ja),
        ),
        words(
            "remove the password and export it again",
            "パスワードや暗号化を外してから書き出し直してください",
        ),
    )
}

pub(super) fn mismatch(kind: Kind) -> Said {
    let called = kind.called();
    (
        words(
            format!("its name says something else than its content, which is {}", called.en),
            format!("名前の拡張子と内容が一致しません (内容は{})", called.ja),
        ),
        words("give it a name that fits its content", "内容に合った拡張子に変更してください"),
    )
}

pub(super) fn review() -> Said {
    (
        words(
            "a person looks at every file from an environment like this one",
            "この環境から出るファイルはすべて担当者が確認します",
        ),
        words(
            "nothing is wrong: wait for the lab's staff, and note what the file is",
            "問題はありません。担当者の確認をお待ちください (内容のメモを添えると早くなります)",
        ),
    )
}

pub(super) fn failed(broken: bool) -> Said {
    if broken {
        return (
            words(
                "a rule of the lab cannot be read, so a person looks at the file",
                "研究室の検査ルールに読み取れないものがあるため、担当者が確認します",
            ),
            words(
                "nothing to do for you: the lab's staff see which rule it is",
                "お待ちください。担当者に通知されています",
            ),
        );
    }
    (
        words(
            "a check of the file did not come to its end, so a person looks at it",
            "検査が最後まで終わらなかったため、担当者が確認します",
        ),
        words(
            "wait for the lab's staff, or export it in a simpler format",
            "担当者の確認をお待ちいただくか、より単純な形式で書き出してください",
        ),
    )
}

pub(super) fn added(rule: &RuleId) -> Said {
    (
        words(
            format!("a rule of this lab, {rule}, found something in it"),
            format!("この研究室のルール {rule} に該当しました"),
        ),
        words("ask the lab's staff what the rule is about", "ルールの内容は担当者にお尋ねください"),
    )
}
