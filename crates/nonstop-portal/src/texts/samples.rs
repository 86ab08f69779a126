//! Texts about samples, and about putting them before a debuggee.

texts! {
    // The part of an environment's page.
    inject_section: "Samples before the debuggee", "デバッグ対象への検体の投入";
    inject_lead: "A sample gets into the machine without any network: as a disc that it finds in its drive, or through its agent where the template has one.",
        "ネットワークを使わずに検体をマシンへ渡します。ドライブに入るディスクとして、またはテンプレートがエージェントを備える場合はエージェント経由で渡します。";
    inject_open: "Choose samples", "検体を選ぶ";
    inject_none: "Nothing has been put before the debuggee yet.",
        "検体の投入はまだありません。";
    inject_off: "The machine is off: switch it on first.", "マシンが停止しています。先に起動してください。";
    inject_reverts: "A revert takes the disc out, and gives a clean machine.",
        "復元すると、ディスクは取り出され、マシンは初期状態に戻ります。";
    eject: "Take it out", "取り出す";

    // Choosing.
    choose_title: "Put samples before the debuggee of {}", "{} のデバッグ対象に検体を投入";
    choose_lead: "Search, tick the samples, and search again if you need more: what you ticked is kept.",
        "検索して検体を選択してください。選択したものは、続けて検索しても保持されます。";
    search: "Search", "検索する";
    search_title: "Search samples", "検体の検索";
    hash: "SHA-256, or its beginning", "SHA-256（先頭のみも可）";
    hash_hint: "From its first digit on", "先頭から入力";
    family: "Family", "ファミリー";
    family_hint: "The whole name", "名称全体";
    tag: "Tag", "タグ";
    tag_hint: "The whole tag", "タグ全体";
    kind: "Type", "種類";
    kind_hint: "Such as pe, elf, pdf, script", "例: pe, elf, pdf, script";
    text: "Words in reports", "レポート内の語句";
    text_hint: "A process, file, registry key, mutex, domain, address or signature",
        "プロセス、ファイル、レジストリキー、ミューテックス、ドメイン、アドレス、シグネチャ";
    from: "From day", "開始日";
    until: "Until day", "終了日";
    field_hash: "Only the digits 0 to 9 and a to f, at most 64.",
        "0～9 と a～f のみ、64 文字以内で入力してください。";
    field_date: "Not a date: use a form like 2030-01-31.",
        "日付の形式が正しくありません。2030-01-31 のように入力してください。";
    field_days: "The last day must not come before the first.",
        "終了日は開始日以降にしてください。";
    found: "Samples found", "検索結果";
    newest: "Newest samples", "新しい検体";
    none_found: "No sample is like that.", "条件に合う検体はありません。";
    more: "Further samples", "続きを表示";
    chosen: "Chosen", "選択済み";
    choose: "Choose", "選択:";
    go_on: "Go on with what is chosen", "選択した検体で次へ";
    choose_first: "Tick at least one sample first.", "先に検体を 1 つ以上選択してください。";
    choose_fewer: "At most {} samples go in at once.", "一度に投入できる検体は {} 個までです。";
    only_report: "Only its reports are here", "レポートのみ（検体なし）";
    col_sample: "Sample", "検体";
    col_kind: "Type", "種類";
    col_family: "Family, tags", "ファミリー・タグ";
    col_seen: "First and last seen", "初回・最終観測日";
    col_days: "Days", "収録日";
    col_reports: "Reports", "レポート";
    col_source: "From", "入手元";

    // How.
    how_title: "How it goes in", "投入方法";
    how_lead: "Only the machine of environment {} gets to see it.",
        "解析環境 {} のマシンだけが検体を受け取ります。";
    way: "Way", "方法";
    way_disc: "A disc in its drive", "ドライブ内のディスク";
    way_disc_hint: "Read-only, for every guest; takes the place of a disc that is there.",
        "読み取り専用で、どのゲストでも使えます。すでに入っているディスクと入れ替わります。";
    way_agent: "Files in {}, by the machine's agent", "マシンのエージェントが {} にファイルとして置く";
    way_agent_hint: "The machine has to run. What its agent answers is what the machine says, and no proof.",
        "マシンが動作している必要があります。エージェントの応答はマシンの申告であり、証明にはなりません。";
    names: "Names of the files", "ファイル名";
    name_of: "Name of", "ファイル名:";
    name_hint: "Letters, digits, spaces and . _ - + ( ). Left empty: the hash and .bin; some samples run only under their own name.",
        "使用できる文字は英数字、空白、. _ - + ( ) です。空欄の場合は「ハッシュ値.bin」になります。本来の名前でしか動作しない検体もあります。";
    zip: "Wrap each in a zip with the password “infected”",
        "パスワード「infected」付きの ZIP に入れる";
    zip_hint: "For guests whose scanner would take the bare file away.",
        "そのままではゲストのウイルス対策ソフトに削除される場合に使います。";
    put_in: "Put it before the debuggee", "デバッグ対象に投入する";
    not_put_in: "It was not put in", "投入されませんでした";
    back_to_choice: "Change the choice", "選び直す";
    notice_injecting: "It is on its way into the machine.", "マシンに投入しています。";
    notice_ejecting: "The disc is being taken out.", "ディスクを取り出しています。";

    // Injections.
    injections: "Injections", "検体の投入";
    injections_lead: "What was put before the debuggees of all environments, newest first.",
        "全解析環境のデバッグ対象に投入された検体です（新しい順）。";
    injections_none: "Nothing has been put before a debuggee yet.",
        "検体の投入はまだありません。";
    injection: "Injection", "投入";
    state_preparing: "Being put in", "投入中";
    state_there: "Before the machine", "投入済み";
    state_failed: "Did not work", "失敗";
    state_ended: "Ended", "終了";
    by_disc: "disc", "ディスク";
    by_agent: "agent", "エージェント";
    zipped: "in a zip", "ZIP 形式";
    col_way: "Way", "方法";
    col_when: "When", "日時";
    asked: "Asked", "指示";
    there: "There since", "投入";
    ended: "Ended", "終了";
    ended_revert: "by a revert", "復元による";
    ended_return: "by going back to a snapshot", "スナップショットへの復帰による";
    ended_eject: "taken out", "取り出し";
    ended_replaced: "another came in its place", "別の検体に入れ替え";
    ended_environment: "the environment ended", "解析環境の終了";
    guest_says: "The guest says", "ゲストの申告";
    guest_says_hint: "Information of the machine that may be under attack; it proves nothing.",
        "攻撃を受けている可能性のあるマシンからの情報であり、証明にはなりません。";

    // The record of a run.
    record: "Run record", "実行記録";
    record_title: "Run record of {}", "{} の実行記録";
    record_lead: "Under which containment the samples ran. Print this page, or cite the file: it is signed by the lab, and its hash is below.",
        "検体がどのような隔離のもとで実行されたかの記録です。このページを印刷するか、ラボの署名付きファイルを引用してください。ファイルのハッシュ値は下にあります。";
    record_download: "Download the signed record", "署名付き記録をダウンロード";
    record_sha256: "SHA-256 of the file", "ファイルの SHA-256";
    record_facts: "What is on record", "記録の内容";
    record_signed: "What vouches for it", "記録の裏付け";
    record_check: "The row of the lab's trace that says this, and the signature of its hash. Anybody checks the file with:",
        "この内容を記したラボの証跡の行と、そのハッシュ値への署名です。ファイルは次のコマンドで誰でも検証できます:";
    record_cite: "To cite it", "引用例";
    record_odd: "This record cannot be shown as a page; the file is whole.",
        "この記録はページとして表示できませんが、ファイルは完全です。";
    // Names of its fields.
    of_lab: "Lab", "ラボ";
    of_environment: "Environment", "解析環境";
    of_template: "Template", "テンプレート";
    of_machine: "Machine", "マシン";
    of_machines: "Machines", "マシン一覧";
    of_role: "Role", "役割";
    of_generation: "Generation", "世代";
    of_image: "Image", "イメージ";
    of_image_digest: "Digest of the image", "イメージのダイジェスト";
    of_domain: "Data domain", "データドメイン";
    of_samples: "Samples", "検体";
    of_name: "Name", "名前";
    of_bytes: "Bytes", "バイト数";
    of_by: "Way", "方法";
    of_zip: "In a zip", "ZIP 形式";
    of_from: "From", "開始";
    of_until: "Until", "終了";
    of_ended_by: "Ended by", "終了の理由";
    of_guest_says: "The guest says (no proof)", "ゲストの申告（証明ではない）";
    of_containment: "Containment", "隔離";
    of_there: "Seen before the guest", "ゲストでの確認";
    of_begin: "Just before it was put in", "投入の直前";
    of_failure: "Why not all of it got there", "完了しなかった理由";
    of_counted_at: "Counted last", "最後に数えた時刻";
    of_end: "Once it was gone", "終了の確認後";
    of_counts: "Packets of the link", "リンクのパケット";
    of_between: "Between its two machines", "2 台の間";
    of_left: "Left the link", "リンク外への流出";
    of_refused: "Refused", "遮断";
    of_proof: "Last proof of reach", "直近の到達性の証明";
    of_colour: "Result", "結果";
    of_rights: "Rights in force", "有効な権限";
    of_rules: "Rules in force", "有効な規則";
    of_current: "As wanted", "設定どおり";
    of_at: "At", "時刻";
    of_version: "Version of NONSTOP", "NONSTOP の版";
    of_unknown: "Not known", "不明";
    record_yes: "yes", "はい";
    record_no: "no", "いいえ";
    record_nothing: "nothing", "なし";

    // For staff.
    samples: "Samples", "検体";
    samples_lead: "What is in the store, of every day that was published. Researchers find it on the servers of their data domain.",
        "公開済みの各日に収録されている検体です。研究者は所属するデータドメインのサーバーで利用します。";
    domain: "Data domain", "データドメイン";
    no_store: "No data domain of this lab has samples.", "検体のあるデータドメインはありません。";
    to_days: "Days of data", "データの公開状況";
}
