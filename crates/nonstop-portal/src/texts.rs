//! Every text of the portal, in both languages, side by side.
//!
//! One macro defines the fields and both languages at once: a text that lacks a translation does
//! not compile. `{}` in a text is filled by [`fill`].

macro_rules! texts {
    ($( $name:ident: $en:literal, $ja:literal; )*) => {
        /// The texts of one language.
        #[derive(Debug)]
        pub(crate) struct Texts { $(pub(crate) $name: &'static str,)* }
        pub(crate) static ENGLISH: Texts = Texts { $($name: $en,)* };
        pub(crate) static JAPANESE: Texts = Texts { $($name: $ja,)* };
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $en, $ja),)*];
    };
}

pub(crate) mod samples;
pub(crate) mod transfers;

/// `text` with its `{}` replaced by `value`.
pub(crate) fn fill(text: &str, value: impl std::fmt::Display) -> String {
    text.replacen("{}", &value.to_string(), 1)
}

texts! {
    // Frame of every page.
    skip: "Skip to content", "本文へ移動";
    navigation: "Main", "メイン";
    other_language: "日本語", "English";
    clock_mark: "The host's clock was set", "ホストの時計が変更されました";
    clock_held: "It is {} seconds ahead of the time that the lab goes by. Nothing ends by it until an admin runs: nonstop clock confirm",
        "ラボの基準時刻より {} 秒進んでいます。管理者が nonstop clock confirm を実行するまで、これによって終了するものはありません。";
    heads_late_mark: "The record of who did what does not get out of this host", "操作記録がこのホストの外に届いていません";
    heads_late: "A second place lacks signed heads: {}. An admin finds the reason with: nonstop check",
        "署名済みの記録を受け取れていない保管先があります: {}。管理者は nonstop check で原因を確認できます。";
    demo_mark: "Demo lab", "デモ環境";
    demo: "Key files are allowed here instead of IC cards. Do not use it for real work.",
        "IC カードの代わりに鍵ファイルでログインできる設定です。実際の業務には使用しないでください。";
    nav_home: "Home", "ホーム";
    nav_requests: "Requests", "利用申請";
    nav_accounts: "Accounts", "アカウント";
    nav_sessions: "Sessions", "接続記録";
    nav_displays: "Displays", "画面";
    nav_data: "Data", "データ";
    nav_reach: "Reach", "到達性";
    nav_trace: "Trace", "証跡";
    nav_about: "About", "このラボについて";
    role_researcher: "Researcher", "研究者";
    role_staff: "Staff", "スタッフ";
    all_times: "All times are {}.", "時刻はすべて {} です。";
    refreshing: "This page refreshes itself until everything is ready.",
        "準備が完了するまで、このページは自動的に更新されます。";
    stop_refreshing: "Stop refreshing", "自動更新を止める";
    back_home: "Back to Home", "ホームへ戻る";
    cancel: "Cancel", "キャンセル";
    error_list: "Please correct the following", "次の点を修正してください";

    // Words of states.
    state_waiting: "Not begun", "開始前";
    state_preparing: "Preparing", "準備中";
    state_ready: "Ready", "利用可能";
    state_ended: "Ended", "終了";
    state_gone: "Gone", "削除済み";
    state_problem: "Needs attention", "要対応";
    machine_off: "Off", "停止";
    machine_starting: "Starting", "起動中";
    machine_running: "Running, desktop not yet there", "動作中（デスクトップ準備中）";
    machine_ready: "Ready", "利用可能";
    machine_stopping: "Shutting down", "停止処理中";
    request_open: "Waiting for staff", "承認待ち";
    request_approved: "Approved", "承認済み";
    request_refused: "Refused", "不承認";
    account_active: "Active", "有効";
    account_suspended: "Suspended", "停止中";
    account_removed: "Removed", "削除済み";

    // Home.
    welcome: "Welcome, {}", "{} さん、ようこそ";
    own_environments: "Your environments", "あなたの解析環境";
    no_environments: "You have no environment yet.", "解析環境はまだありません。";
    no_environments_help:
        "Apply for one; when staff have approved it, it is built and appears here.",
        "利用を申請してください。スタッフが承認すると解析環境が構築され、ここに表示されます。";
    own_requests: "Your open requests", "承認待ちの申請";
    apply: "Apply for an environment", "解析環境の利用を申請";
    to_decide: "Requests to decide", "判断が必要な申請";
    nothing_to_decide: "No request is waiting.", "承認待ちの申請はありません。";
    all_environments: "Environments of all researchers", "すべての研究者の解析環境";
    no_environments_at_all: "There is no environment now.", "現在、解析環境はありません。";
    figures: "The lab now", "ラボの現況";
    figure_environments: "environments in their period", "利用期間中の解析環境";
    figure_machines: "machines running", "動作中のマシン";
    figure_sessions: "open sessions", "接続中のセッション";
    figure_memory: "MiB of {} granted", "MiB 割り当て済み（全 {} MiB）";
    figure_accounts: "active accounts", "有効なアカウント";
    figure_proof: "reach", "到達性の検証";
    figure_proof_ago: "proven {} ago", "{}前に検証";
    figure_quarantined: "things quarantined", "隔離中のもの";

    // Columns.
    col_environment: "Environment", "解析環境";
    col_request: "Request", "申請";
    col_researcher: "Researcher", "研究者";
    col_template: "Template", "テンプレート";
    col_state: "State", "状態";
    col_period: "Period", "利用期間";
    col_purpose: "Purpose", "目的";
    col_made_at: "Made", "申請日時";
    col_action: "Action", "操作";
    ends_in: "ends in {}", "残り {}";
    begins_in: "begins in {}", "開始まで {}";
    days: "{} d", "{} 日";
    hours: "{} h", "{} 時間";
    minutes: "{} min", "{} 分";
    seconds: "{} s", "{} 秒";

    // Reach.
    // Days of data.
    data_title: "Data", "データ";
    data_lead: "Days that machines of each data domain can have. A day is published whole or not at all; publishing it again replaces it.",
        "データドメインごとに、仮想マシンから利用できる日別データです。1 日分は全体が一度に公開され、再公開すると置き換わります。";
    no_data_domains: "The lab has no data domains.", "データドメインはありません。";
    data_publish: "Publish what is in the inbox now", "受信箱のファイルを今すぐ公開";
    data_elsewhere: "Nothing is published here: its servers are the lab's own, or offer no days.",
        "ここでは公開しません。サーバーがラボ側にあるか、日別データを提供していません。";
    data_problems: "Needs attention", "要対応";
    data_disk: "Disk", "ディスク";
    data_files: "{} of files", "ファイル {}";
    data_tables: "{} of PostgreSQL", "PostgreSQL の表 {}";
    data_free: "{} free", "空き {}";
    data_kept: "Kept", "保存期間";
    data_kept_days: "{} days, counted from the newest", "最新の日から {} 日分";
    data_kept_ever: "For ever", "無期限";
    data_inbox: "Inbox", "受信箱";
    data_under_way: "Under way", "処理中";
    data_waiting: "In the inbox", "受信箱にあるもの";
    data_published: "Published days", "公開済みの日";
    no_days: "No day is published.", "公開済みの日はありません。";
    data_samples: "Published days of samples and reports", "公開済みの検体とレポートの日";
    data_rejected: "Rejected files", "却下されたファイル";
    data_rejected_lead: "They lie, each with its reason, in", "理由とともに次の場所に保存されています:";
    data_waits: "Waits", "待機中";
    data_taken: "Being checked", "検査中";
    data_checked: "Being loaded", "取り込み中";
    data_loaded: "Being shown", "公開処理中";
    data_loading: "Being loaded again", "再取り込み中";
    data_in_rdb: "In PostgreSQL", "PostgreSQL に取り込み済み";
    data_not_in_rdb: "Not in PostgreSQL", "PostgreSQL に未取り込み";
    data_changed: "Changed by hand", "手動で変更されています";
    offers_lead: "Days that your machines can have, and what to type in them.",
        "仮想マシンから利用できる日別データと、仮想マシン内で入力するコマンドの例です。";
    no_offers: "None of your environments reaches a data domain.", "データドメインに到達できる環境がありません。";
    no_offers_help: "Apply for an environment whose template reaches a data domain.",
        "データドメインに到達できるテンプレートの環境を申請してください。";
    offers_from: "From", "利用元の環境";
    offers_servers: "Servers", "サーバー";
    offers_lines: "In the machine", "仮想マシン内での使い方";
    offers_days: "Days", "日別データ";
    offers_samples: "Days of samples and reports", "検体とレポートの日別データ";
    offers_samples_warning: "Samples are malware. A program that you fetch stays what it is: run it in a debuggee alone.",
        "検体はマルウェアです。取得した検体は debuggee の中だけで実行してください。";
    offers_elsewhere: "Its servers are the lab's own: ask them for their days.",
        "サーバーはラボ側にあります。日別データの一覧はサーバーで確認してください。";
    col_day: "Day", "日";
    col_file: "File", "ファイル";
    col_packets: "Packets", "パケット数";
    col_samples: "Samples", "検体数";
    col_reports: "Reports", "レポート数";
    col_published: "Published", "公開日時";
    col_rejected: "Rejected", "却下日時";
    col_arrived: "Taken", "受付日時";

    reach_title: "Reach", "到達性";
    reach_lead: "What may talk to what, proven from the rules, bridges, addresses and routes of the running kernel, beside what the templates allow.",
        "稼働中のカーネルの規則・ブリッジ・アドレス・経路から、何が何と通信できるかを検証し、テンプレートが許可する範囲と照合した結果です。";
    prove_now: "Prove now", "今すぐ検証";
    proof_green: "Proven", "検証済み";
    proof_red: "Differs", "相違あり";
    proof_unproven: "Not proven", "未検証";
    proof_old: "Out of date", "古い検証";
    no_proof: "Nothing has been proven yet. It is done every minute, and after each change.",
        "まだ検証されていません。検証は 1 分ごと、および変更のたびに行われます。";
    no_proof_short: "not yet", "未実施";
    notice_proven: "It was proven anew.", "改めて検証しました。";
    notice_publishing: "What lies in the inbox is being published; this page shows how far it is.",
        "受信箱のファイルの公開処理を始めました。進み具合はこのページに表示されます。";
    notice_probing: "A probe has begun; reload this page to see how far it is.", "検査を始めました。進み具合はこのページを再読み込みすると表示されます。";
    proof_age: "since it was proven", "検証からの経過時間";
    proof_cells: "cells of the matrix", "検証した組み合わせ";
    proof_machines: "machines", "マシン";
    proof_took: "seconds it took", "所要時間（秒）";
    proof_at: "Proven at", "検証日時:";
    proof_differences: "What differs", "相違点";
    proof_doubts: "What could not be proven", "検証できなかった点";
    proof_passing: "What was there at the first look and is gone", "最初の確認時に存在し、その後なくなった相違点";
    proof_drifts: "Put right lately", "最近修復された変更";
    proof_drifts_lead: "Somebody else changed this on the host, and the lab put it right. The trace keeps all of it.",
        "ホスト上で第三者が行った変更を、ラボが元に戻しました。すべて証跡に残ります。";
    proof_stand_ins: "Only a listener stands for:", "代替の待ち受けのみ（本来のサーバは未構築）:";
    proof_between: "Between editions", "エディションの間";
    proof_between_lead: "Machines of one edition beside the servers of another: nothing may lead there.",
        "あるエディションのマシンから、ほかのエディションのサーバへの組み合わせ。どこにも通じてはなりません。";
    col_servers_of: "Servers of", "サーバの所属";
    col_servers: "Servers", "サーバ";
    col_cells: "Cells", "組み合わせ";
    between_closed: "All closed", "すべて閉鎖";
    between_open: "Not closed", "閉じていません";
    stand_in: "(stand-in)", "（代替）";
    proof_open: "What gets through", "通信できる組み合わせ";
    proof_nothing_open: "Nothing is allowed, and nothing gets through.",
        "許可された通信はなく、通信できる組み合わせもありません。";
    proof_closed: "What is closed", "遮断されている組み合わせ";
    proof_closed_lead: "Nothing is allowed there and nothing gets through; grouped by the rule that decides.",
        "許可されておらず、通信もできない組み合わせです。判定した規則ごとにまとめています。";
    closed_cells: "{} cells", "{} 通り";
    closed_senders: "{} senders", "送信元 {} 件";
    closed_examples: "Such as", "例";
    probe_title: "Probe", "実地検査";
    probe_lead: "Canary machines of each template send frames of every layer; what arrives is captured, and what must not is shown to arrive in a copy without rules. Takes a minute or two.",
        "各テンプレートのカナリア端末から全階層のフレームを送り、届いたものを捕捉します。届いてはならないものは、規則のない複製網では届くことを確かめます。1〜2分かかります。";
    probe_now: "Probe now", "検査を始める";
    probe_running: "A probe is running:", "検査中:";
    probe_at: "Probed at", "検査日時:";
    probe_canaries: "Canaries", "カナリア";
    probe_allowed: "Allowed frames", "許可されたフレーム";
    probe_denied: "Denied frames", "拒否されるべきフレーム";
    probe_controlled: "Shown to arrive without rules", "規則なしで届いたもの";
    probe_holds: "holds", "成立";
    probe_fails: "does not hold", "不成立";
    probe_broke: "came to no end", "完了せず";
    no_probe: "Nothing has been probed since the daemon started.", "デーモンの起動後、検査はまだ行われていません。";
    probe_left_out: "{} more lines are not shown; `nonstop reach prove --probe` prints all.",
        "ほか {} 行は表示していません。すべては `nonstop reach prove --probe` で確認できます。";
    proof_left_out: "{} more lines are not shown; `nonstop reach prove` prints all.",
        "ほか {} 行は表示していません。すべては `nonstop reach prove` で確認できます。";
    cell_agrees: "As allowed", "許可どおり";
    cell_differs: "Differs", "相違あり";
    col_from: "From", "送信元";
    col_traffic: "Traffic", "通信の種類";
    col_allowed: "Allowed", "許可";
    col_gets_through: "Gets through", "実際";
    col_judged: "Verdict", "判定";
    col_rule: "Decided by", "判定した規則";

    // Requests.
    requests_title: "Requests", "利用申請";
    no_requests: "There are no requests.", "申請はありません。";
    apply_title: "Apply for an environment", "解析環境の利用申請";
    apply_lead: "Staff read what you write here and decide. You see the answer on your home page.",
        "内容をスタッフが確認して可否を判断します。結果はホームに表示されます。";
    template: "What do you need?", "必要な環境";
    no_templates: "This lab has no template yet. Ask its staff.",
        "テンプレートがまだ登録されていません。スタッフにお問い合わせください。";
    template_facts: "MiB of memory", "MiB メモリ";
    template_desktop: "with a desktop", "デスクトップあり";
    template_no_desktop: "without a desktop", "デスクトップなし";
    from: "From", "開始";
    from_hint: "Leave it empty to begin as soon as it is approved.",
        "空欄にすると、承認され次第すぐに開始します。";
    hours_field: "For how many hours?", "利用時間（時間）";
    hours_hint: "Or give the end instead.", "または、終了日時を指定してください。";
    until: "Until", "終了";
    until_hint: "Leave it empty if you gave hours.", "利用時間を入力した場合は空欄にしてください。";
    purpose: "What is it for?", "利用目的";
    purpose_hint: "The question you work on and the data you need for it; up to 2000 characters.",
        "研究の課題と、そのために必要なデータを記入してください（2000 文字まで）。";
    send_request: "Send request", "申請する";
    request_title: "Request {}", "申請 {}";
    decided_by: "Decided by", "判断者";
    reason: "Reason", "理由";
    its_environment: "Its environment", "解析環境";
    decision: "Decision", "判断";
    approve_lead: "The environment is built at once if its period has begun.",
        "利用期間が始まっていれば、承認と同時に構築が始まります。";
    approve: "Approve", "承認する";
    refuse: "Refuse", "不承認にする";
    refuse_reason: "Reason for refusing", "不承認の理由";
    refuse_hint: "The researcher reads it.", "研究者に表示されます。";

    // An environment.
    environment_title: "Environment {}", "解析環境 {}";
    of_researcher: "Researcher", "研究者";
    problem_heading: "This environment is not as it should be",
        "この解析環境に問題が発生しています";
    problem_researcher:
        "The lab goes on trying by itself, and its staff see this too. You need not do anything.",
        "システムが自動的に再試行しています。スタッフにも通知されているため、操作は不要です。";
    how_to_mend: "How to mend it", "対処方法";
    preparing_lead: "Your machines are being built. This usually takes less than a minute.",
        "マシンを構築しています。通常は 1 分以内に完了します。";
    waiting_lead: "It is built when its period begins.", "利用期間の開始とともに構築されます。";
    ended_lead: "Access is cut and the machines are stopped. Disks are kept until {}.",
        "接続は切断され、マシンは停止しました。ディスクは {} まで保管されます。";
    gone_lead: "Nothing of it is left.", "すべて削除されました。";
    role_analyst: "Analyst machine", "解析用マシン";
    role_debugger: "Debugger machine", "デバッガ";
    role_debuggee: "Debuggee machine", "デバッグ対象";
    address: "Address", "アドレス";
    linked: "joined to its pair by a link", "リンクでもう一台と接続";
    link_alone: "No network but the link to its pair", "ネットワークはもう一台とのリンクのみ";
    reaches: "Reaches", "接続先:";
    import_folder: "Samples are put into", "検体の投入先:";
    unit: "All machines", "すべてのマシン";
    unit_lead: "These machines are one unit. Here all of them are switched together; below, each alone.",
        "これらのマシンは一組です。ここではまとめて、下ではそれぞれを個別に操作できます。";
    generation: "Generation", "世代";
    power_on: "Power on", "電源を入れる";
    power_off: "Shut down", "シャットダウン";
    power_kill: "Power off at once", "強制的に電源を切る";
    power_reset: "Reset", "リセット";
    revert: "Put back to clean…", "初期状態に戻す…";
    connect: "Open the desktop", "デスクトップを開く";
    connect_later: "The desktop can be opened when the machine is ready.",
        "マシンが利用可能になると、デスクトップを開けます。";
    no_desktop: "This machine has no desktop.", "このマシンにはデスクトップがありません。";
    step_tunnel: "Open the tunnel to the machine. Leave this command running.",
        "マシンへのトンネルを開きます。このコマンドは実行したままにしてください。";
    step_desktop: "Then open the desktop.", "続いて、デスクトップを開きます。";
    step_login: "Log in as", "次の情報でログインします";
    windows: "Windows", "Windows";
    linux: "Linux (FreeRDP)", "Linux（FreeRDP）";
    download_rdp: "Download {}", "{} をダウンロード";
    rdp_note: "In this file clipboard, drives, printers, sound and every other redirection are off.",
        "クリップボード・ドライブ・プリンター・音声などのリダイレクトは、すべて無効に設定されています。";
    user: "User", "ユーザー名";
    password: "Password", "パスワード";
    password_owner: "Shown to the researcher alone", "研究者本人にのみ表示されます";
    console_rdp_mark: "Pictures only.", "画面だけです。";
    console_rdp: "The lab draws this desktop: keys and pointer go in, pictures come out, counted by session. For Windows, install the lab's certificate once as a trusted root; FreeRDP's command names the fingerprint.",
        "この画面はラボ側で描画されます。入るのはキーとポインタ、出るのは画面だけで、セッションごとに記録されます。Windows ではラボの証明書を一度だけ信頼されたルートとして登録してください。FreeRDP のコマンドにはフィンガープリントが入っています。";
    authority: "The lab's certificate", "ラボの証明書";
    guest_rdp_mark: "Not a closed way", "閉じた経路ではありません";
    guest_rdp: "The machine itself serves this desktop (rdp: guest). A program on your PC can carry any byte in and out through it, also with redirections off. The lab sees that you connect, not what passes.",
        "このデスクトップはマシン自身が提供します（rdp: guest）。リダイレクトを無効にしても、PC 側のプログラムを使えば任意のデータを持ち込み・持ち出しできる経路です。ラボに記録されるのは接続の事実だけで、通信の内容は記録されません。";
    end_section: "End this environment", "解析環境の終了";
    end_lead: "When you no longer need it, end it and make room for others.",
        "不要になったら終了し、ほかの研究者のために資源を解放してください。";
    end_open: "End environment…", "解析環境を終了…";
    extend: "Move its end", "終了日時の変更";
    extend_button: "Move the end", "変更する";
    new_until: "New end", "新しい終了日時";
    end_title: "End environment {}?", "解析環境 {} を終了しますか？";
    end_what: "Access is cut at once, open desktops are closed, and the machines are stopped. All tunnels of the researcher close, the one to this portal too: open it again to come back. Disks are kept for the lab's grace time and then destroyed. This cannot be taken back.",
        "接続は直ちに切断され、開いているデスクトップは閉じられ、マシンは停止します。このポータルへのトンネルも含め、研究者のすべてのトンネルが閉じられます。続ける場合は、トンネルを開き直してください。ディスクは猶予期間のあいだ保管され、その後破棄されます。この操作は取り消せません。";
    end_do: "End it now", "終了する";
    revert_title: "Put {} back to clean?", "{} を初期状態に戻しますか？";
    revert_what: "Everything that was written on this machine is left behind: files, settings, and what is running. It starts anew from its image with a new password. This cannot be taken back.",
        "ファイル・設定・実行中のプログラムなど、このマシンに書き込まれた内容はすべて失われます。イメージから新たに起動し、パスワードも新しくなります。この操作は取り消せません。";
    revert_unit_what: "Everything that was written on any of its machines is left behind: files, settings, and what is running. Each starts anew from its image. This cannot be taken back.",
        "すべてのマシンについて、ファイル・設定・実行中のプログラムなど書き込まれた内容が失われます。それぞれイメージから新たに起動します。この操作は取り消せません。";
    snapshots: "Snapshots", "スナップショット";
    snapshots_lead: "Keeps what machines are now, with what is running in them, so that you can come back to it. All machines are taken at one time.",
        "マシンの現在の状態を、実行中のプログラムも含めて保存し、あとで戻すことができます。すべてのマシンは同じ時点で保存されます。";
    snapshots_at_most: "Up to {} are kept of each machine.", "マシンごとに {} 個まで保存できます。";
    no_snapshots: "None has been taken yet.", "まだありません。";
    col_snapshot: "Snapshot", "スナップショット";
    col_taken: "Taken", "作成日時";
    col_machines: "Machines", "マシン";
    col_size: "Size", "サイズ";
    snapshot_memory: "with memory", "メモリを含む";
    snapshot_disk: "was off", "停止中に作成";
    snapshot_taking: "Being taken", "作成中";
    snapshot_whole: "Kept", "保存済み";
    snapshot_failed: "Could not be taken", "作成できませんでした";
    snapshot_name: "Name of a new snapshot", "新しいスナップショットの名前";
    snapshot_name_hint: "Letters and digits, and spaces, dots, - or _ within; up to 40 characters.",
        "文字と数字で 40 文字まで。途中に空白、ピリオド、-、_ も使えます。";
    snapshot_of: "Of which machine", "対象のマシン";
    snapshot_of_all: "All of them", "すべて";
    snapshot_do: "Take a snapshot", "スナップショットを作成";
    snapshot_return: "Return to it…", "この状態に戻す…";
    snapshot_return_one: "{} alone…", "{} のみ…";
    snapshot_delete: "Delete…", "削除…";
    snapshot_return_title: "Return to the snapshot {}?", "スナップショット「{}」の状態に戻しますか？";
    snapshot_return_what: "What is on the machines now is lost, unless another snapshot has it: files, settings, and what is running. They go on from where they were when it was taken; the clock in them is then behind. This cannot be taken back.",
        "現在のマシンの内容（ファイル、設定、実行中のプログラム）は、ほかのスナップショットに保存されていない限り失われます。マシンは作成時の状態から動作を再開します（マシン内の時計は遅れたままになります）。この操作は取り消せません。";
    snapshot_return_do: "Return to it", "この状態に戻す";
    snapshot_delete_title: "Delete the snapshot {}?", "スナップショット「{}」を削除しますか？";
    snapshot_delete_what: "You cannot return to it any more. The machines themselves are not touched.",
        "この状態に戻すことはできなくなります。マシン自体には影響しません。";
    snapshot_delete_do: "Delete it", "削除する";
    revert_do: "Put it back to clean", "初期状態に戻す";

    // Accounts.
    accounts_title: "Accounts", "アカウント";
    no_accounts: "There is no account yet.", "アカウントはまだありません。";
    account_add: "Enter a researcher", "研究者を登録";
    account_add_lead: "Accounts of staff are entered by an admin: nonstop account add.",
        "スタッフのアカウントは、管理者が nonstop account add コマンドで登録します。";
    col_account: "Account", "アカウント";
    col_name: "Name", "氏名";
    col_affiliation: "Affiliation", "所属";
    col_role: "Role", "役割";
    account_name: "Account name", "アカウント名";
    account_name_hint: "A lower-case letter, then up to 23 lower-case letters, digits or hyphens.",
        "英小文字で始まる、英小文字・数字・ハイフン 24 文字まで。";
    full_name: "Full name", "氏名";
    affiliation: "Affiliation", "所属";
    col_edition: "Edition", "エディション";
    edition: "Edition", "エディション";
    edition_hint: "The data domain that the person works on. Data of the others stay out of reach.",
        "利用するデータドメイン。ほかのデータドメインのデータには届きません。";
    edition_none: "None", "なし";
    bandwidth: "Bandwidth", "通信帯域";
    bandwidth_unit: "kbit/s each way, all sessions together", "kbit/s(上り下りそれぞれ、全セッション合計)";
    bandwidth_none: "No limit", "制限なし";
    edition_change: "Another edition", "エディションの変更";
    edition_change_lead: "Only once every environment of the present edition is gone, its grace time over.",
        "現在のエディションの環境がすべてなくなり、猶予期間が過ぎてから変更できます。";
    edition_change_do: "Change edition", "エディションを変更する";
    field_edition: "Choose an edition.", "エディションを選んでください。";
    sources: "Source networks", "接続元ネットワーク";
    sources_hint: "One a line, such as 192.0.2.0/24. From elsewhere the gateway is not reached. 0.0.0.0/0 is anywhere.",
        "1 行に 1 つ入力してください（例: 192.0.2.0/24）。それ以外からはゲートウェイに接続できません。制限しない場合は 0.0.0.0/0 と入力します。";
    sources_change: "Other source networks", "接続元ネットワークの変更";
    sources_change_lead: "Sessions that come from elsewhere end at once.",
        "変更後のネットワーク以外からの接続は、ただちに切断されます。";
    sources_change_do: "Change networks", "ネットワークを変更する";
    field_sources: "Name the networks the person comes from; 0.0.0.0/0 is anywhere.",
        "接続元ネットワークを入力してください（制限しない場合は 0.0.0.0/0）。";
    notice_sources: "The person comes from other networks now.", "接続元ネットワークを変更しました。";

    // Cards.
    cards: "Cards", "カード";
    cards_own: "Your cards", "あなたのカード";
    cards_none: "No card lets this person in. An admin issues one at the reader: nonstop card issue.",
        "ログインできるカードがありません。カードは管理者がカードリーダーで発行します（nonstop card issue）。";
    col_card: "Card", "カード";
    col_kind: "Kind", "種類";
    col_algorithm: "Key", "鍵の方式";
    col_expires: "Expires", "有効期限";
    col_proven: "Checked", "確認";
    card_none: "No card", "カードなし";
    card_piv: "IC card", "IC カード";
    card_key_file: "Key file (demo)", "鍵ファイル（デモ用）";
    card_never: "Never", "なし";
    card_proven: "Signed a challenge", "署名を確認済み";
    card_unproven: "Key entered by hand", "公開鍵のみ登録";
    card_issuing: "Being issued", "発行中";
    card_active: "Active", "有効";
    card_expired: "Expired", "期限切れ";
    card_revoked: "Revoked", "失効";
    card_demo: "Demo: key files log in here, too.", "この設定では鍵ファイルでもログインできます（デモ用）。";
    card_line: "Public key of a card that has one", "鍵を作成済みのカードの公開鍵";
    card_line_hint: "One line, as ssh-keygen -D opensc-pkcs11.so prints it for slot 9A. It logs in at once; be sure that its key is on a card, and whose.",
        "ssh-keygen -D opensc-pkcs11.so が表示する 1 行（スロット 9A）を入力してください。登録するとすぐにログインできます。鍵がカード上にあることと持ち主を確認してください。";
    card_add_do: "Add card", "カードを登録する";
    card_admin_only: "Only an admin can add a card of staff.", "スタッフのカードを登録できるのは管理者だけです。";
    card_revoke_title: "Revoke card {}", "カード {} の失効";
    card_revoke_what: "It logs in no more, for ever, and what it has open is cut within a second.",
        "このカードでは今後ログインできなくなり、開いている接続は 1 秒以内に切断します。取り消せません。";
    card_revoke_do: "Revoke", "失効させる";
    card_give_up_title: "Give up card {}", "カード {} の発行の中止";
    card_give_up_what: "It was left in the middle of being issued, and opens nothing. Issue the card anew afterwards.",
        "発行が途中で止まっているカードです。まだログインには使えません。中止した後、あらためて発行できます。";
    card_give_up_do: "Give up", "発行を中止する";
    notice_card_added: "The card was added.", "カードを登録しました。";
    notice_card_revoked: "The card was revoked.", "カードを失効させました。";
    profile: "Connection profile", "接続プロファイル";
    profile_hint: "For the person's PC; it holds no secret.", "利用者の PC 用のファイルです。秘密の情報は含みません。";
    profile_lead: "With this file nonstop-connect on your PC opens the tunnel by your card, the portal and your desktops. It holds no secret and is signed by the lab.",
        "PC の nonstop-connect でこのファイルを開くと、カードでトンネルを開き、ポータルとデスクトップに接続します。秘密の情報は含まず、ラボの署名が付いています。";
    with_card: "With an IC card add:", "IC カードを使う場合は次を追加してください:";
    authority_fingerprint: "Fingerprint of the lab's authority", "ラボの認証局のフィンガープリント";
    authority_fingerprint_hint: "The letter with your PIN and nonstop-connect show the same.",
        "PIN 通知書と nonstop-connect に表示される値と一致します。";
    gateway_shows: "At the first login ssh shows this key of the gateway; compare it:",
        "初回ログイン時に ssh が表示するゲートウェイの鍵が、次の値と一致することを確認してください:";
    keys: "Public keys", "公開鍵";
    keys_hint: "One a line, such as the content of ~/.ssh/id_ed25519.pub.",
        "1 行に 1 つ入力してください（例: ~/.ssh/id_ed25519.pub の内容）。";
    anywhere: "Anywhere", "制限なし";
    add_do: "Enter account", "登録する";
    added_at: "Entered", "登録日時";
    suspend: "Suspend", "利用停止";
    suspend_lead: "Logging in is refused, and everything open is cut within a second.",
        "ログインを拒否し、開いている接続は 1 秒以内に切断します。";
    suspend_do: "Suspend account", "利用を停止する";
    resume: "Make active again", "利用再開";
    resume_lead: "The person can log in again.", "再びログインできるようになります。";
    resume_do: "Make account active", "利用を再開する";
    reason_traced: "Written to the trace.", "証跡に記録されます。";
    admin_only: "Only an admin can suspend an account of staff.",
        "スタッフのアカウントを停止できるのは管理者だけです。";

    // Sessions and trace.
    sessions_title: "Sessions at the gateway", "ゲートウェイへの接続";
    no_sessions: "There is no session.", "接続はありません。";
    col_session: "Session", "セッション";
    col_source: "From", "接続元";
    col_key: "Key", "鍵";
    col_opened: "Opened", "開始";
    col_closed: "Closed", "終了";
    still_open: "Open", "接続中";
    session_end: "End session {}", "接続 {} を切断";
    session_end_lead: "Ending a session cuts its forwarded connections at once; other sessions of the same person go on.",
        "切断すると、その接続で転送中の通信は直ちに切れます。同じ利用者の他の接続は続きます。";
    col_client: "Client", "クライアント";
    col_targets: "Bytes in / out by target", "宛先ごとの送信 / 受信";
    col_ended: "Why it ended", "終了の理由";
    not_all_counted: "not all bytes were counted", "一部の通信量は数えられていません";
    refused_title: "Refused logins of the last day", "直近 1 日に拒否されたログイン";
    refused_lead: "The reason is known here and was not told to whoever tried.",
        "理由はここにだけ示され、試みた側には伝えられていません。";
    no_refused: "No login was refused.", "拒否されたログインはありません。";
    refused_often: "Refused again and again", "繰り返し拒否されたもの";
    col_tries: "Tries", "回数";
    col_last: "Last", "最後";
    col_why: "Why", "理由";
    show_closed: "Show closed ones too", "終了したものも表示";
    show_open: "Show open ones only", "接続中のみ表示";
    trace_title: "Trace", "証跡";
    trace_lead: "Who did what to which data. Rows can only be added; each carries a hash over itself and the row before.",
        "誰が、どのデータに、何をしたかの記録です。追記のみ可能で、各行は直前の行を含むハッシュを持ちます。";
    trace_verify: "Check the hash chain", "ハッシュチェーンを検証";
    trace_good: "All {} rows fit together.", "{} 行すべての整合性を確認しました。";
    trace_broken: "The chain is broken at row {}. Tell the admin and keep the database as it is.",
        "{} 行目でチェーンが壊れています。データベースをそのまま保全し、管理者に連絡してください。";
    trace_head: "Head", "先頭ハッシュ";
    col_row: "Row", "行";
    col_at: "At", "日時";
    col_who: "Who", "誰が";
    col_what: "What", "何を";
    col_to: "To", "対象";
    col_detail: "Detail", "詳細";
    trace_latest: "The latest {} rows.", "最新 {} 行を表示しています。";

    // Displays.
    displays_title: "Displays of machines", "マシンの画面";
    displays_lead: "Who looks at which machine, what went through, and who else may look.",
        "誰がどのマシンの画面を見たか、通過した量、ほかに閲覧を許可された人の一覧です。";
    display_sessions: "Sessions at displays", "画面への接続";
    views_title: "Others who may look", "閲覧を許可された人";
    no_views: "Nobody else may look.", "ほかに閲覧できる人はいません。";
    col_looks: "Looks", "閲覧者";
    col_allowed_by: "Allowed by", "許可した人";
    col_frames: "Pictures", "画面数";
    col_bytes: "Bytes", "データ量";
    col_keys: "Keys", "打鍵数";
    col_remark: "Remark", "備考";
    as_owner: "types too", "操作可";
    as_viewer: "sees only", "閲覧のみ";
    over_budget: "Over its bytes of an hour", "1 時間の上限を超過";
    over_budget_title: "Displays that used up their bytes of an hour",
        "1 時間のデータ量の上限に達した画面";
    over_budget_lead: "They were slowed down: a program may be reading data off the pictures. Open ones, and those of the last day.",
        "画面の更新を遅くしています。プログラムが画面からデータを読み取っている可能性があります（接続中、および過去 1 日）。";
    counted_later: "Counted at its end", "終了時に集計";
    view_end: "End", "許可を取り消す";
    view_open_own: "Look at {}", "{} の画面を見る";
    view_let: "Let another person look", "ほかの人に閲覧を許可";
    view_let_lead: "They see this display and cannot type. You can end it at any time on the page Displays.",
        "この画面を見るだけで、操作はできません。「画面」のページでいつでも取り消せます。";
    view_look: "Look at this display", "この画面を見る";
    view_look_lead: "You see what the researcher sees and cannot type. It is written to the trace.",
        "研究者と同じ画面を見るだけで、操作はできません。証跡に記録されます。";
    view_do: "Allow", "許可する";
    view_look_do: "Open to me", "自分に閲覧を許可する";
    view_hours: "For how many hours?", "時間（時間単位）";
    record_title: "Record this display", "この画面を録画";
    record_lead: "Pictures and what is typed are kept, encrypted, up to a bound. Passwords that are typed are among it.",
        "画面と入力内容を暗号化して、上限まで保存します。入力されたパスワードも含まれます。";
    record_do: "Begin recording", "録画を開始";
    raw_title: "Desktops with the raw way", "閉じていない経路のデスクトップ";
    no_raw: "All desktops come as pictures.", "すべてのデスクトップは画面だけで提供されています。";

    // Recordings.
    recordings_title: "Recordings", "録画";
    recordings_lead: "What displays showed and what was typed. Give a reason to look; it holds for an hour.",
        "画面に表示された内容と入力の記録です。閲覧には理由が必要です（1 時間有効）。";
    no_recordings: "Nothing has been recorded.", "録画はありません。";
    recording_title: "Recording {}", "録画 {}";
    recording_now: "Recording", "録画中";
    recording_end: "End recording", "録画を終了";
    play_reason: "Why do you want to see it?", "閲覧する理由";
    play_do: "See it", "閲覧する";
    recording_lost: "A part of this recording is missing: pictures behind it may be wrong in places.",
        "この録画には欠けている部分があります。以降の画面は一部が正しくない可能性があります。";
    recording_full: "This recording reached its bound and ended.", "上限に達したため録画を終了しました。";
    recording_empty: "No picture was recorded yet.", "まだ画面が記録されていません。";
    recording_at: "Picture {} of {}", "画面 {} / {}";
    recording_moves: "Move in the recording", "録画内の移動";
    recording_alt: "What the display showed at {}", "{} に表示されていた画面";
    first: "First", "最初";
    previous: "Previous", "前へ";
    next: "Next", "次へ";
    last: "Last", "最後";
    film: "Play from here", "ここから再生";
    film_stop: "Stop here", "停止";
    film_on: "Play on", "続きを再生";
    film_note: "Up to 120 pictures; where nothing changed, two seconds at most.",
        "最大 120 画面を再生します。変化のない時間は 2 秒に短縮されます。";
    typed_title: "Typed until the next picture", "次の画面までの入力";
    typed_none: "Nothing.", "入力はありません。";

    // About.
    about_title: "About this lab", "このラボについて";
    about_what: "You come to the data: it stays in the lab, and you work on machines inside it, through one tunnel.",
        "データはラボの外に出ません。利用者がトンネルを通ってラボ内のマシンで作業します。";
    gateway: "Gateway", "ゲートウェイ";
    host_key: "Host key", "ホスト鍵";
    fingerprint: "Fingerprint", "フィンガープリント";
    fingerprint_hint: "Compare it when ssh asks you at the first login.",
        "初回ログイン時に ssh が表示する値と一致することを確認してください。";
    portal_tunnel: "The tunnel to this portal and to the file transfer", "このポータルとファイル転送へのトンネル";
    portal_then: "Then open {} in your browser.", "その後、ブラウザーで {} を開いてください。";
    transfer_then: "Files go in and out by WebDAV at {}: connect your file manager there (Windows: map a network drive).",
        "ファイルの送受信は WebDAV の {} で行います。ファイルマネージャーから接続してください（Windows: ネットワークドライブの割り当て）。";
    you_are: "You are known by your tunnel as", "トンネルにより識別された利用者";
    no_passwords: "No account has a password. Whoever holds the tunnel is you: close it when you leave.",
        "アカウントにパスワードはありません。トンネルを保持する人が本人とみなされます。離席時はトンネルを閉じてください。";

    authority_title: "The lab's certificate", "ラボの証明書";
    authority_lead: "Displays show a certificate that this one has signed. For Windows, install it once: open the file, Install Certificate, Current User, and place it in Trusted Root Certification Authorities. Windows shows the thumbprint and asks; compare it with this one.",
        "画面の接続先は、この証明書で署名された証明書を提示します。Windows では一度だけ登録してください。ファイルを開き、「証明書のインストール」→「現在のユーザー」→「信頼されたルート証明機関」を選びます。確認画面に表示される拇印が次の値と一致することを確かめてください。";
    thumbprint: "Thumbprint (SHA-1)", "拇印（SHA-1）";
    notice_view: "The display was opened.", "画面の閲覧を許可しました。";
    notice_view_ended: "Looking was ended.", "画面の閲覧許可を取り消しました。";
    notice_recording: "The recording begins.", "録画を開始しました。";
    notice_recording_ended: "The recording was ended.", "録画を終了しました。";

    // Notices after something was done.
    notice_applied: "Your request was sent to the staff.", "申請をスタッフに送信しました。";
    notice_approved: "The request was approved.", "申請を承認しました。";
    notice_refused: "The request was refused.", "申請を不承認にしました。";
    notice_power: "It is being done.", "操作を受け付けました。";
    notice_taking: "The snapshot is being taken. Machines that run stand still for some seconds.",
        "スナップショットを作成しています。動作中のマシンは数秒間停止します。";
    notice_returned: "The machines are going back to the snapshot.",
        "スナップショットの状態に戻しています。";
    notice_snapshot_deleted: "The snapshot is deleted.", "スナップショットを削除しました。";
    notice_reverted: "The machine is being put back to clean.", "マシンを初期状態に戻しています。";
    notice_ended: "The environment was ended.", "解析環境を終了しました。";
    notice_extended: "The end was moved.", "終了日時を変更しました。";
    notice_added: "The account was entered.", "アカウントを登録しました。";
    notice_suspended: "The account was suspended.", "アカウントの利用を停止しました。";
    notice_edition: "The account is of another edition now.", "アカウントのエディションを変更しました。";
    notice_resumed: "The account is active again.", "アカウントの利用を再開しました。";
    notice_session: "The session is being ended.", "接続を切断しています。";

    // Errors beside a field.
    field_required: "Fill this in.", "入力してください。";
    field_template: "Choose one.", "1 つ選択してください。";
    field_time: "Not a date and time: use a form like 2030-01-31T09:00.",
        "日時の形式が正しくありません。2030-01-31T09:00 のように入力してください。";
    field_length: "Give either hours or an end, not both.",
        "利用時間と終了日時は、どちらか一方だけを入力してください。";
    field_hours: "Give a whole number of hours from 1 to 8784.",
        "1 から 8784 までの整数で入力してください。";
    field_order: "The end must come after the beginning.", "終了は開始より後にしてください。";
    field_account: "Not an account name, or one that is reserved.",
        "アカウント名として使用できないか、予約されています。";
    field_source: "Not a network: {}", "ネットワークの形式が正しくありません: {}";

    // Errors as pages.
    error_bad: "That cannot be done", "この操作はできません";
    error_bad_what: "The request makes no sense as it is.", "要求の内容が正しくありません。";
    error_bad_help: "Go back, correct what you entered, and send it again.",
        "前のページに戻り、入力内容を確認して、もう一度送信してください。";
    error_host: "Unknown name of this portal", "ポータルの名前が正しくありません";
    error_host_what: "Your browser asked for a name that is not this portal's. Another site may have led it here.",
        "ブラウザーがこのポータルのものではない名前でアクセスしました。他のサイトから誘導された可能性があります。";
    error_host_help: "Open it as http://localhost:PORT/ with the port of your tunnel.",
        "トンネルのポート番号を使い、http://localhost:ポート番号/ で開いてください。";
    error_origin: "This form came from elsewhere", "別のサイトからの送信です";
    error_origin_what: "What was sent did not come from a page of this portal, so nothing was done.",
        "このポータルのページ以外から送信されたため、何も実行しませんでした。";
    error_origin_help: "Open the portal itself and do it there.",
        "ポータルを直接開いて操作してください。";
    error_token: "This form is too old", "フォームの有効期限が切れています";
    error_token_what: "The page was opened before the portal was started anew, or its cookie was refused. Nothing was done.",
        "ポータルの再起動前に開いたページであるか、Cookie が拒否されています。何も実行していません。";
    error_token_help: "Go back, reload the page, allow its cookie, and send the form again.",
        "前のページに戻って再読み込みし、Cookie を許可して、もう一度送信してください。";
    error_forbidden: "You may not do that", "この操作は許可されていません";
    error_forbidden_what: "This needs another role.", "別の役割が必要です。";
    error_forbidden_help: "Ask the staff of the lab if you need it done.",
        "必要な場合は、ラボのスタッフにご相談ください。";
    error_missing: "There is no such page", "ページが見つかりません";
    error_missing_what: "It does not exist, or it is not yours to see.",
        "存在しないか、閲覧する権限がありません。";
    error_missing_help: "Start again from the home page.", "ホームからやり直してください。";
    error_conflict: "Something stands in the way", "現在の状態では実行できません";
    error_conflict_what: "It was already done, or the lab has no room.",
        "すでに実行済みか、ラボの容量が不足しています。";
    error_conflict_help: "Look at the present state, then decide anew.",
        "現在の状態を確認してから、改めて操作してください。";
    error_internal: "Something went wrong in the lab", "ラボ内でエラーが発生しました";
    error_internal_what: "Nothing was changed by what you did.", "この操作による変更はありません。";
    error_internal_help: "Try again; if it stays, tell the staff the time of this page.",
        "もう一度お試しください。解決しない場合は、この画面の時刻をスタッフに伝えてください。";
    error_daemon: "The lab does not answer", "ラボが応答していません";
    error_daemon_what: "The portal works, but the service behind it is not running. Your machines go on running.",
        "ポータルは動作していますが、背後のサービスが停止しています。マシンは動作を続けています。";
    error_daemon_help: "This page tries again by itself. If it stays, tell the staff of the lab.",
        "このページは自動的に再試行します。続く場合は、ラボのスタッフに連絡してください。";
    error_slow: "That took too long", "時間内に完了しませんでした";
    error_slow_what: "The lab did not finish in time. Look whether it was done before you try again.",
        "時間内に処理が終わりませんでした。再試行の前に、実行済みかどうかを確認してください。";
    error_large: "That is too much", "送信内容が大きすぎます";
    error_large_what: "A form may hold 64 KiB.", "フォームで送信できるのは 64 KiB までです。";
    error_said: "The lab says", "ラボからのメッセージ";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn japanese(text: &str) -> bool {
        text.chars().any(|c| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}'))
    }

    #[test]
    fn both_languages_say_everything_and_fill_the_same_gaps() {
        // Proper names, and the button that names the other language.
        let same = ["windows", "linux", "other_language", "mount_finder", "mount_davfs"];
        for (name, en, ja) in ALL
            .iter()
            .chain(samples::ALL)
            .chain(transfers::ALL)
            .filter(|(name, ..)| !same.contains(name))
        {
            assert!(!en.trim().is_empty() && !japanese(en), "{name} in English: {en}");
            assert!(japanese(ja), "{name} in Japanese: {ja}");
            assert_eq!(en.matches("{}").count(), ja.matches("{}").count(), "{name}");
        }
    }
}
