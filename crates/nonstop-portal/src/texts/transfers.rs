//! Texts about files on their way in and out.

texts! {
    nav_transfers: "Transfers", "ファイル転送";
    nav_exports: "Exports", "持ち出し";
    nav_exports_waiting: "{} waiting", "確認待ち {} 件";
    transfers_title: "Transfers", "ファイル転送";
    transfers_lead: "What you bring in is found in import/ of your machines. What a machine puts into export/ is screened, and leaves once it is released.",
        "持ち込んだファイルは、マシンの import/ に表示されます。マシンの export/ に置いたファイルは検査され、許可されると持ち出せます。";
    transfers_of: "Only of {}", "{} のみ";
    transfers_all: "Show all environments", "すべての解析環境を表示";
    exports_own: "Exports", "持ち出し";
    no_exports: "Nothing has been exported yet.", "持ち出しはまだありません。";
    exports_told: "Until it is released, only number, state and rules are told here. Name, findings and how to mend them are shown inside the machine: in ~/verdicts, and at",
        "許可されるまで、ここには番号・状態・規則だけを表示します。ファイル名、検査結果、対処方法は、マシン内の ~/verdicts と次のページで確認できます:";
    show_ended: "Show ended ones too", "終了したものも表示";
    hide_ended: "Hide ended ones", "終了したものを隠す";
    imports_title: "Imports", "持ち込み";
    no_imports: "Nothing has been brought in yet.", "持ち込んだファイルはまだありません。";
    imports_lead: "Files that researchers brought into their environments.",
        "研究者が解析環境に持ち込んだファイルです。";
    import_looking: "Being looked at", "確認中";
    import_visible: "In the machines", "マシンで利用可能";
    import_refused: "Not let in", "受け入れ不可";
    import_removed: "Removed", "削除済み";
    export_submitted: "Submitted", "受付済み";
    export_screening: "Being screened", "検査中";
    export_held: "Waits for staff", "確認待ち";
    export_blocked: "Blocked", "ブロック";
    export_released: "Released", "許可";
    export_refused: "Refused", "不許可";
    export_withdrawn: "Withdrawn", "取り下げ";
    export_revoked: "Taken back", "許可の取り消し";
    export_submitted_what: "It will be screened in a moment.", "まもなく検査されます。";
    export_screening_what: "The lab's rules look at every byte of it.", "ラボの規則に従って全内容を検査しています。";
    export_held_what: "A person of the staff looks at it and decides. You need not do anything; a note below can help them.",
        "スタッフが内容を確認して判断します。操作は不要です。下の欄に説明を書くと判断の助けになります。";
    export_blocked_what: "It does not leave the lab, and is gone from export/. The bytes are kept for the lab's operators.",
        "ラボの外には出せません。export/ からは取り除かれ、内容はラボの運用者のために保管されています。";
    export_released_what: "It is in export/ of the file transfer, to be fetched.",
        "ファイル転送の export/ から取得できます。";
    export_refused_what: "A person of the staff decided that it does not leave. Their reason is shown inside the machine. Write the file anew once that is mended: it becomes another export.",
        "スタッフが持ち出しを不許可にしました。理由はマシン内に表示されます。対処したファイルを改めて保存すると、新しい持ち出しになります。";
    export_withdrawn_what: "Its name was deleted, or written anew, before it was released.",
        "許可される前に、ファイルが削除されたか、新しい内容で上書きされました。";
    export_revoked_what: "It was released, and is not to be had any more.",
        "いったん許可されましたが、現在は取得できません。";
    exports_title: "Exports", "持ち出し";
    exports_lead: "Files that wait to leave the lab, the longest first. What is released, researchers can fetch at once.",
        "ラボの外への持ち出しを待っているファイルです（待ち時間の長い順）。許可すると、研究者はすぐに取得できます。";
    exports_none_waiting: "Nothing waits for a decision.", "判断を待っている持ち出しはありません。";
    exports_none_found: "No export is like that.", "条件に合う持ち出しはありません。";
    exports_blocked: "Blocked lately", "最近ブロックされた持ち出し";
    exports_blocked_lead: "They did not leave. Somebody tried; a rule says what.",
        "ラボの外には出ていません。試みた研究者と、該当した規則を確認してください。";
    exports_cut: "Only the newest {} exports are looked through; choose an environment to see older ones.",
        "新しい順に {} 件までを対象としています。古いものは解析環境を指定して表示してください。";
    exports_imports: "Imports", "持ち込みの一覧";
    filter: "Show", "表示条件";
    filter_do: "Show", "表示する";
    filter_waiting: "Waiting for a decision", "判断待ち";
    filter_any: "All", "すべて";
    filter_environment: "Environment", "解析環境";
    filter_environment_hint: "A number such as e12", "番号（例: e12）";
    filter_account_hint: "An account name", "アカウント名";
    field_environment: "Write the number of an environment, such as e12.",
        "解析環境の番号を入力してください（例: e12）。";
    col_export: "Export", "持ち出し";
    col_import: "Import", "持ち込み";
    col_waits: "Waits", "待ち時間";
    col_rules: "Rules", "規則";
    col_type: "Type", "種類";
    col_submitted: "Submitted", "受付日時";
    col_changed: "State since", "状態の変更日時";
    col_brought: "Brought", "持ち込み日時";
    col_verdict: "Verdict", "判定";
    col_rule_name: "Rule", "規則";
    col_found: "Found", "検査結果";
    export_title: "Export {}", "持ち出し {}";
    export_version: "version {}", "第 {} 版";
    export_name_later: "Told once it is released", "許可後に表示";
    export_note: "Owner's note", "研究者の説明";
    export_no_note: "None", "なし";
    export_screened: "Screened", "検査";
    export_screened_in: "in {} ms", "{} ミリ秒";
    export_by_rules: "by the rules {}", "規則 {}";
    export_not_screened: "Not yet", "未検査";
    export_findings: "What was found", "検査結果";
    export_no_findings: "No rule found anything.", "規則に該当するものはありませんでした。";
    export_rules_title: "What the rules say", "規則の説明";
    export_rules_inside: "What exactly was found is shown inside the machine.",
        "該当した箇所の詳細は、マシン内に表示されます。";
    export_preview: "What it looks like", "プレビュー";
    export_preview_lead: "Made anew from the file by a program without rights; the file itself is not shown or sent.",
        "権限を持たないプログラムがファイルから作り直した表示です。ファイルそのものは表示も送信もしません。";
    preview_text: "Its beginning as text ({}).", "先頭部分のテキスト（{}）";
    preview_table: "Its first rows.", "先頭の行";
    preview_picture: "A picture of {} × {} pixels.", "{} × {} ピクセルの画像";
    preview_bytes: "Its first bytes.", "先頭のバイト列";
    preview_none: "There is no preview:", "プレビューはありません:";
    preview_failed: "The preview could not be made. Nothing is lost; decide by what was found, or have an admin fetch the file.",
        "プレビューを作成できませんでした。検査結果をもとに判断するか、管理者にファイルの取り出しを依頼してください。";
    preview_alt: "The picture in export {}", "持ち出し {} の画像";
    preview_cut: "There is more than is shown.", "表示されていない続きがあります。";
    preview_hidden: "{} characters that do not show are written as their numbers.",
        "表示されない文字 {} 個を文字番号で示しています。";
    export_bytes: "The bytes themselves", "ファイルの内容そのもの";
    export_bytes_lead: "They never reach a browser. An admin writes them into a file on the host, which the trace keeps:",
        "内容そのものがブラウザーに送られることはありません。管理者がホスト上のファイルに取り出せます（証跡に記録されます）:";
    export_quarantine: "They lie in the quarantine that only operators can read.",
        "運用者だけが読める隔離場所に保管されています。";
    export_earlier: "Other exports of {}", "{} のほかの持ち出し";
    export_no_earlier: "There are none.", "ほかの持ち出しはありません。";
    export_decisions: "Decided", "判断の記録";
    export_by_policy: "The lab's policy", "ラボの方針";
    export_decide: "Decide", "判断";
    export_undecidable: "It cannot be decided here now", "現在、ここでは判断できません";
    export_decided_meanwhile: "Your decision was not taken", "判断は反映されませんでした";
    export_release: "Release", "許可する";
    export_release_lead: "The researcher can fetch it within a second. What was fetched cannot be taken back.",
        "研究者は 1 秒以内に取得できるようになります。取得されたものは取り戻せません。";
    export_release_reason: "Why it may leave", "許可する理由";
    export_refuse: "Refuse", "不許可にする";
    export_refuse_lead: "It stays in the lab for good. The researcher can write the file anew.",
        "このファイルは今後も持ち出せません。研究者は改めて保存し直せます。";
    export_refuse_reason: "Why it must stay", "不許可の理由";
    export_refuse_hint: "The researcher reads it inside the machine. Say how to mend it.",
        "研究者がマシン内で読みます。対処方法も書いてください。";
    export_revoke: "Take it back", "許可の取り消し";
    export_revoke_lead: "It goes from where it is fetched. What was fetched, was fetched.",
        "以後は取得できなくなります。すでに取得されたものは取り戻せません。";
    export_revoke_reason: "Why", "取り消す理由";
    export_revoke_hint: "The researcher reads it.", "研究者に表示されます。";
    export_revoke_do: "Take back", "許可を取り消す";
    export_back: "Back to the queue", "一覧へ戻る";
    note_title: "Note to the staff", "スタッフへの説明";
    note_hint: "What it is, where it comes from, and why it holds nothing of the lab's data; up to 1000 characters.",
        "内容、作成の経緯、ラボのデータを含まない理由などを記入してください（1000 文字まで）。";
    note_do: "Save note", "保存する";
    receipt_hint: "A signed file that says what was released and when; people and files are named in it only where the lab has it so. You can publish it with your results.",
        "いつ何が許可されたかを示す署名付きファイルです。氏名とファイル名は、ラボが設定した場合にだけ含まれます。研究成果とともに公開できます。";
    receipt_do: "Download receipt", "受領証をダウンロード";
    verdict_pass: "Pass", "合格";
    verdict_hold: "Hold", "保留";
    verdict_block: "Block", "ブロック";
    notice_export_released: "The export was released.", "持ち出しを許可しました。";
    notice_export_refused: "The export was refused.", "持ち出しを不許可にしました。";
    notice_export_revoked: "The export was taken back.", "持ち出しの許可を取り消しました。";
    notice_noted: "The note was saved.", "説明を保存しました。";
    figure_exports: "exports waiting for a decision", "判断待ちの持ち出し";
    environment_files: "Files", "ファイル";
    environment_files_lead: "Bring files in, and fetch what was released:", "ファイルの持ち込みと、許可されたファイルの取得:";
    environment_transfers: "Its transfers", "この環境のファイル転送";

    // What rules are about, and how to mend it in general.
    rule_protected: "The file is one of the lab's own: a sample, a day of data, a report.",
        "ラボのデータ（検体、日別データ、レポートなど）そのものです。";
    rule_protected_mend: "The lab's data stay in the lab. Export what you derived from them: counts, plots, notes.",
        "ラボのデータは持ち出せません。集計、図、メモなど、そこから得た結果を持ち出してください。";
    rule_type: "Files of this type, told by their content, are not let out without a look.",
        "内容から判定したファイルの種類が、確認なしでは持ち出せないものです。";
    rule_type_mend: "Export the result in a plain form, such as text, CSV, PNG or PDF.",
        "テキスト、CSV、PNG、PDF などの形式で持ち出してください。";
    rule_mismatch: "Its name says another type than its content has.", "ファイル名の拡張子と、内容から判定した種類が一致しません。";
    rule_mismatch_mend: "Give it the name of what it is.", "内容に合った拡張子の名前に変更してください。";
    rule_appended: "Bytes stand behind the end of what it is.", "ファイルの本来の終わりの後ろに、余分なデータがあります。";
    rule_appended_mend: "Open it, and save it anew.", "開いて保存し直してください。";
    rule_malformed: "It is not built to its end as what it begins as.",
        "ファイルの構造を終端まで確認できません。";
    rule_malformed_mend: "Open it in a program that shows it, and save it anew.",
        "表示できるソフトで開いて保存し直してください。";
    rule_encrypted: "The content is encrypted, so nobody can see what leaves.",
        "暗号化されているため、内容を確認できません。";
    rule_encrypted_mend: "Export it without encryption: the way to you is encrypted already.",
        "暗号化せずに持ち出してください。ラボからあなたまでの経路は暗号化されています。";
    rule_archive: "It is an archive, compressed, or looks like noise, so what is in it does not show.",
        "アーカイブ、圧縮、または乱数のように見える内容で、中身を確認できません。";
    rule_archive_mend: "Export the files in it one by one, unpacked.", "展開して、ファイルを個別に持ち出してください。";
    rule_size: "It is larger than one file may be, or more than may leave in a day or a period.",
        "1 ファイル、1 日、または利用期間あたりの上限を超えています。";
    rule_size_mend: "Export less: a part, a summary; or wait until tomorrow, or ask the staff.",
        "一部や要約だけを持ち出すか、翌日まで待つか、スタッフに相談してください。";
    rule_name: "Its name holds characters that do not show, or that turn others round.",
        "ファイル名に、表示されない文字や文字の向きを変える文字が含まれています。";
    rule_name_mend: "Give it a plain name.", "通常の文字だけの名前に変更してください。";
    rule_review: "Staff look at every file of such an environment.",
        "この種類の解析環境では、すべてのファイルをスタッフが確認します。";
    rule_review_mend: "Nothing is wrong with it; it waits for its turn.", "問題が見つかったわけではありません。確認をお待ちください。";
    rule_failed: "The screening came to no end, so a person has to look.",
        "検査が完了しなかったため、人による確認が必要です。";
    rule_failed_mend: "Nothing you have to do; write the file anew to have it screened again.",
        "操作は不要です。ファイルを保存し直すと、もう一度検査されます。";
    rule_broken: "A rule of this lab could not be read, so a person has to look.",
        "ラボの規則の一部を読み込めなかったため、人による確認が必要です。";
    rule_broken_mend: "Nothing you have to do; the staff see it.", "操作は不要です。スタッフに通知されています。";
    rule_yara: "A pattern that this lab looks for is in it.", "ラボが指定したパターンに該当しました。";
    rule_yara_mend: "Inside the machine the finding says which, and how to mend it.",
        "該当したパターンと対処方法は、マシン内の検査結果に表示されます。";
    rule_program: "A program of this lab that looks at exports found something.",
        "ラボの検査プログラムが該当箇所を見つけました。";
    rule_other: "A rule of this lab.", "ラボの規則です。";

    // How files are brought and fetched.
    mount_title: "Bring and fetch files", "ファイルの持ち込みと取得";
    mount_lead: "By WebDAV, through the tunnel. Leave this command running; nonstop-connect opens the same way by itself.",
        "トンネル経由の WebDAV で行います。次のコマンドは実行したままにしてください（nonstop-connect では自動的に開きます）。";
    mount_addresses: "Then your files are at", "ファイルの場所は次のとおりです";
    mount_none: "You have no environment whose files could be reached.", "利用できる解析環境がありません。";
    mount_explorer: "Windows Explorer", "Windows エクスプローラー";
    mount_explorer_how: "This PC, Map network drive, and this folder; or in a command window:",
        "「PC」→「ネットワーク ドライブの割り当て」でこの場所を指定します。コマンドプロンプトでは次のとおりです:";
    mount_finder: "macOS Finder", "macOS Finder";
    mount_finder_how: "Go, Connect to Server (⌘K), this address, as a guest:",
        "「移動」→「サーバへ接続」（⌘K）で次の場所を指定し、ゲストとして接続します:";
    mount_davfs: "Linux (davfs2)", "Linux（davfs2）";
    mount_davfs_how: "No name or password is needed: press Enter twice.", "ユーザー名とパスワードは不要です（Enter キーを 2 回押します）。";
    mount_limits: "An environment may hold {} of imports. An export may have {}; {} may leave in a day and {} in the whole period.",
        "持ち込みは解析環境ごとに合計 {} まで。持ち出しは 1 ファイル {}、1 日 {}、利用期間全体で {} までです。";
}
