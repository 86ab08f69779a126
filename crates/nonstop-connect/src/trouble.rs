//! What can be wrong, each said in one sentence that names the way out.

use crate::Lang;
use nonstop_profile::{Account, Fingerprint, Host, Moment, Plain};
use std::{io, path::Path};

/// How many tries a card leaves for its PIN, as far as PKCS#11 tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// All, or the card does not tell.
    All,
    /// Fewer than at first, and more than one.
    Fewer,
    /// One.
    Last,
    /// None: the card is blocked.
    None,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the sentences below say what each means")]
pub enum Trouble {
    // What is kept, and profiles.
    Home,
    File(String, String),
    Path(String),
    Profile(String, String),
    Older(Moment, Moment),
    Authority { lab: Plain, kept: Fingerprint, new: Fingerprint },
    Unpinned(Fingerprint),
    NotTrusted(Fingerprint),
    NoLab,
    WhichLab(Vec<String>),
    UnknownLab(String),
    UnknownDesktop(String, Vec<String>),
    // The card.
    NoModule(Vec<String>),
    Module(String, String),
    NoReader,
    NoCard(Vec<String>),
    UnknownCard(String),
    NoKey(String),
    SeveralCards(Vec<String>),
    OtherCard(String),
    WrongPin(Tries),
    PinLength(usize, usize),
    CardGone,
    Card(String),
    NoPin,
    // The tunnel.
    NoSsh,
    OldSsh(String),
    Ssh(String),
    Silent(Host, u16),
    Refused(Host, u16),
    NoRoute(Host),
    NoName(Host),
    Dropped(Host),
    KeyRefused(Account),
    CardUnused(String),
    AccountRefused(Account),
    HostKey { pinned: Vec<String>, shown: String },
    PortTaken(u16),
    Lost,
    Ended(Host),
    Closed(Host),
    Fetch(String),
    // Somebody wanted it to end.
    Stopped,
}

impl Trouble {
    pub(crate) fn file(path: &Path, error: &io::Error) -> Trouble {
        Trouble::File(path.display().to_string(), error.to_string())
    }

    /// One word for programs that read `--json`.
    pub fn kind(&self) -> &'static str {
        match self {
            Trouble::Home => "home",
            Trouble::File(..) => "file",
            Trouble::Path(_) => "path",
            Trouble::Profile(..) => "profile",
            Trouble::Older(..) => "older",
            Trouble::Authority { .. } => "authority",
            Trouble::Unpinned(_) => "unpinned",
            Trouble::NotTrusted(_) => "not-trusted",
            Trouble::NoLab => "no-lab",
            Trouble::WhichLab(_) => "which-lab",
            Trouble::UnknownLab(_) => "unknown-lab",
            Trouble::UnknownDesktop(..) => "unknown-desktop",
            Trouble::NoModule(_) => "no-module",
            Trouble::Module(..) => "module",
            Trouble::NoReader => "no-reader",
            Trouble::NoCard(_) => "no-card",
            Trouble::UnknownCard(_) => "unknown-card",
            Trouble::NoKey(_) => "no-key",
            Trouble::SeveralCards(_) => "several-cards",
            Trouble::OtherCard(_) => "other-card",
            Trouble::WrongPin(Tries::None) => "blocked",
            Trouble::WrongPin(_) => "wrong-pin",
            Trouble::PinLength(..) => "pin-length",
            Trouble::CardGone => "card-gone",
            Trouble::Card(_) => "card",
            Trouble::NoPin => "no-pin",
            Trouble::NoSsh => "no-ssh",
            Trouble::OldSsh(_) => "old-ssh",
            Trouble::Ssh(_) => "ssh",
            Trouble::Silent(..) => "silent",
            Trouble::Refused(..) => "refused",
            Trouble::NoRoute(_) => "no-route",
            Trouble::NoName(_) => "no-name",
            Trouble::Dropped(_) => "dropped",
            Trouble::KeyRefused(_) => "key-refused",
            Trouble::CardUnused(_) => "card-unused",
            Trouble::AccountRefused(_) => "account-refused",
            Trouble::HostKey { .. } => "host-key",
            Trouble::PortTaken(_) => "port-taken",
            Trouble::Lost => "lost",
            Trouble::Ended(_) => "ended",
            Trouble::Closed(_) => "closed",
            Trouble::Fetch(_) => "fetch",
            Trouble::Stopped => "stopped",
        }
    }

    /// Whether a tunnel that stood before may stand again by itself in a while.
    pub fn may_pass(&self) -> bool {
        match self {
            Trouble::Silent(..)
            | Trouble::Refused(..)
            | Trouble::NoRoute(_)
            | Trouble::NoName(_)
            | Trouble::Dropped(_)
            | Trouble::NoReader
            | Trouble::NoCard(_)
            | Trouble::CardGone
            | Trouble::Lost
            | Trouble::Ended(_)
            | Trouble::Closed(_) => true,
            Trouble::Home
            | Trouble::File(..)
            | Trouble::Path(_)
            | Trouble::Profile(..)
            | Trouble::Older(..)
            | Trouble::Authority { .. }
            | Trouble::Unpinned(_)
            | Trouble::NotTrusted(_)
            | Trouble::NoLab
            | Trouble::WhichLab(_)
            | Trouble::UnknownLab(_)
            | Trouble::UnknownDesktop(..)
            | Trouble::NoModule(_)
            | Trouble::Module(..)
            | Trouble::UnknownCard(_)
            | Trouble::NoKey(_)
            | Trouble::SeveralCards(_)
            | Trouble::OtherCard(_)
            | Trouble::WrongPin(_)
            | Trouble::PinLength(..)
            | Trouble::Card(_)
            | Trouble::NoPin
            | Trouble::NoSsh
            | Trouble::OldSsh(_)
            | Trouble::Ssh(_)
            | Trouble::KeyRefused(_)
            | Trouble::CardUnused(_)
            | Trouble::AccountRefused(_)
            | Trouble::HostKey { .. }
            | Trouble::PortTaken(_)
            | Trouble::Fetch(_)
            | Trouble::Stopped => false,
        }
    }

    /// The sentence.
    pub fn says(&self, lang: Lang) -> String {
        match lang {
            Lang::En => self.english(),
            Lang::Ja => self.japanese(),
        }
    }

    fn english(&self) -> String {
        match self {
            Trouble::Home => "there is no home folder to keep anything in: set HOME (Windows: APPDATA)".into(),
            Trouble::File(path, why) => format!("{path}: {why}"),
            Trouble::Path(path) => format!("{path} has letters that ssh cannot be told: use another folder (HOME, XDG_CONFIG_HOME or APPDATA)"),
            Trouble::Profile(path, why) => format!("{path} is refused: {why}; ask the lab for a new profile"),
            Trouble::Older(new, kept) => format!("this profile ({new}) is older than the one that is kept ({kept}); `nonstop-connect forget` first if you mean it"),
            Trouble::Authority { lab, kept, new } => format!("this profile of {lab} is signed by another authority ({new}) than the one that you trusted ({kept}): somebody may be deceiving you; ask the lab, and `nonstop-connect forget` the lab only if it says so"),
            Trouble::Unpinned(authority) => format!("nobody has checked yet who signed this profile: compare {authority} with your PIN letter, then give it by --fingerprint"),
            Trouble::NotTrusted(authority) => format!("the profile was not kept: its signer {authority} is not the one in your PIN letter; ask the lab"),
            Trouble::NoLab => "there is no profile yet: `nonstop-connect add PROFILE` with the file that the lab gave you".into(),
            Trouble::WhichLab(labs) => format!("several labs are kept: say which, one of {}", labs.join(", ")),
            Trouble::UnknownLab(name) => format!("{name:?} is neither a file nor a lab that is kept: see `nonstop-connect list`"),
            Trouble::UnknownDesktop(name, known) if known.is_empty() => format!("there is no desktop {name:?}: you have none now"),
            Trouble::UnknownDesktop(name, known) => format!("there is no desktop {name:?}: you have {}", known.join(", ")),
            Trouble::NoModule(looked) => format!("no PKCS#11 module for your card was found: install OpenSC, or name one by --pkcs11 (looked for {})", looked.join(", ")),
            Trouble::Module(path, why) => format!("the PKCS#11 module {path} does not work: {why}"),
            Trouble::NoReader => "no card reader was found: plug it in (on Linux the service pcscd must run)".into(),
            Trouble::NoCard(readers) => format!("no card is inserted: put your card into {}", readers.join(" or ")),
            Trouble::UnknownCard(reader) => format!("the card in {reader} is not one that the PKCS#11 module knows: is it the lab's card, the right way up?"),
            Trouble::NoKey(card) => format!("the card {card} has no key for logging in: it was never issued; ask the lab"),
            Trouble::SeveralCards(cards) => format!("several cards are inserted: take out all but one, or say which by --card ({})", cards.join(", ")),
            Trouble::OtherCard(serial) => format!("no card {serial} is inserted: see --card"),
            Trouble::WrongPin(Tries::All) => "the PIN is wrong: more than one try is left, as far as the card tells".into(),
            Trouble::WrongPin(Tries::Fewer) => "the PIN is wrong: the card leaves fewer tries than before, and more than one".into(),
            Trouble::WrongPin(Tries::Last) => "the PIN is wrong: one try is left, and after that the card is blocked; look at your PIN letter".into(),
            Trouble::WrongPin(Tries::None) => "the card is blocked, no try is left for its PIN: the lab can unblock it".into(),
            Trouble::PinLength(least, most) => format!("a PIN of this card has {least} to {most} letters: that was not tried"),
            Trouble::CardGone => "the card was taken out: put it in again".into(),
            Trouble::Card(why) => format!("the card did not do what it should: {why}"),
            Trouble::NoPin => "there is no terminal to ask for the PIN: see --pin-stdin".into(),
            Trouble::NoSsh => "there is no `ssh` on this PC: install OpenSSH's client (Windows: Settings, Optional features)".into(),
            Trouble::OldSsh(version) => format!("`ssh` on this PC is {version}, and 8.4 or later is needed: update it"),
            Trouble::Ssh(said) => format!("ssh failed: {said}"),
            Trouble::Silent(host, port) => format!("{host} does not answer on port {port}: this PC's network address may not be registered with the lab, or the account may be suspended (ask the lab), or a firewall here is in between"),
            Trouble::Refused(host, port) => format!("{host} is there, but nothing listens on its port {port}: the gateway is down; ask the lab"),
            Trouble::NoRoute(host) => format!("there is no way to {host}: is this PC connected to a network?"),
            Trouble::NoName(host) => format!("the name {host} is not known: is this PC connected to a network?"),
            Trouble::Dropped(host) => format!("{host} cut the connection before greeting: too many logins came from this address, or it is not registered; try again in a minute"),
            Trouble::KeyRefused(account) => format!("the gateway does not take this card for {account}: it is revoked or expired, of another account, or used from an address that is not registered, or the account is suspended; ask the lab"),
            Trouble::CardUnused(said) => format!("ssh could not use the card: {said}"),
            Trouble::AccountRefused(account) => format!("the gateway knows this card and yet does not let {account} in: the account is suspended or over, or the lab is under repair; ask the lab"),
            Trouble::HostKey { pinned, shown } => format!("the gateway shows a key that is not the lab's: {shown} where the profile has {}; somebody may be in between, so nothing was sent; ask the lab for a new profile if it changed its key", pinned.join(", ")),
            Trouble::PortTaken(port) => format!("port {port} of this PC was taken by another program in the meantime: try again"),
            Trouble::Lost => "the connection to the gateway was lost".into(),
            Trouble::Ended(host) => format!("{host} ended the session"),
            Trouble::Closed(host) => format!("{host} ended the session and does not answer this PC any more: the account is suspended or over, or the gateway is being restarted; ask the lab"),
            Trouble::Fetch(why) => format!("the portal gave no profile: {why}"),
            Trouble::Stopped => "ended".into(),
        }
    }

    fn japanese(&self) -> String {
        match self {
            Trouble::Home => "設定を置くホームフォルダーがありません。HOME（Windows では APPDATA）を設定してください".into(),
            Trouble::File(path, why) => format!("{path}: {why}"),
            Trouble::Path(path) => format!("{path} には ssh に渡せない文字があります。別のフォルダーを使ってください（HOME、XDG_CONFIG_HOME または APPDATA）"),
            Trouble::Profile(path, why) => format!("{path} は受け付けられません（{why}）。ラボに新しいプロファイルを求めてください"),
            Trouble::Older(new, kept) => format!("このプロファイル（{new}）は登録済みのもの（{kept}）より古いため使いません。必要なら先に `nonstop-connect forget` を実行してください"),
            Trouble::Authority { lab, kept, new } => format!("{lab} のこのプロファイルは、信頼済みの認証局（{kept}）ではなく別の認証局（{new}）が署名しています。なりすましの恐れがあります。ラボに確認し、指示があった場合だけ `nonstop-connect forget` を実行してください"),
            Trouble::Unpinned(authority) => format!("このプロファイルの署名者はまだ確認されていません。{authority} をPIN通知書と見比べ、--fingerprint で指定してください"),
            Trouble::NotTrusted(authority) => format!("署名者 {authority} がPIN通知書と異なるため、プロファイルを登録しませんでした。ラボに確認してください"),
            Trouble::NoLab => "プロファイルがまだありません。ラボから受け取ったファイルを `nonstop-connect add` で登録してください".into(),
            Trouble::WhichLab(labs) => format!("複数のラボが登録されています。どれかを指定してください: {}", labs.join("、")),
            Trouble::UnknownLab(name) => format!("{name:?} というファイルも登録済みのラボもありません。`nonstop-connect list` で確認してください"),
            Trouble::UnknownDesktop(name, known) if known.is_empty() => format!("デスクトップ {name:?} はありません。今使えるデスクトップはありません"),
            Trouble::UnknownDesktop(name, known) => format!("デスクトップ {name:?} はありません。使えるのは {} です", known.join("、")),
            Trouble::NoModule(looked) => format!("カード用の PKCS#11 モジュールが見つかりません。OpenSC をインストールするか、--pkcs11 で指定してください（探した場所: {}）", looked.join("、")),
            Trouble::Module(path, why) => format!("PKCS#11 モジュール {path} が動きません: {why}"),
            Trouble::NoReader => "カードリーダーが見つかりません。接続してください（Linux では pcscd サービスが必要です）".into(),
            Trouble::NoCard(readers) => format!("カードが入っていません。{} にカードを入れてください", readers.join(" または ")),
            Trouble::UnknownCard(reader) => format!("{reader} のカードは PKCS#11 モジュールが扱えません。ラボのカードですか。向きは正しいですか"),
            Trouble::NoKey(card) => format!("カード {card} にはログイン用の鍵がありません（未発行）。ラボに問い合わせてください"),
            Trouble::SeveralCards(cards) => format!("カードが複数入っています。1枚だけにするか、--card で指定してください（{}）", cards.join("、")),
            Trouble::OtherCard(serial) => format!("カード {serial} は入っていません（--card）"),
            Trouble::WrongPin(Tries::All) => "PINが違います。カードの報告では、残り回数は2回以上です".into(),
            Trouble::WrongPin(Tries::Fewer) => "PINが違います。残り回数は減りましたが、まだ2回以上あります".into(),
            Trouble::WrongPin(Tries::Last) => "PINが違います。残り1回で、次に間違えるとカードがロックされます。PIN通知書を確認してください".into(),
            Trouble::WrongPin(Tries::None) => "カードがロックされています（PINの残り回数は0）。ラボで解除できます".into(),
            Trouble::PinLength(least, most) => format!("このカードのPINは{least}〜{most}文字です。カードには送っていません"),
            Trouble::CardGone => "カードが抜かれました。もう一度入れてください".into(),
            Trouble::Card(why) => format!("カードが正しく動きません: {why}"),
            Trouble::NoPin => "PINを尋ねる端末がありません（--pin-stdin を参照）".into(),
            Trouble::NoSsh => "このPCに `ssh` がありません。OpenSSH クライアントをインストールしてください（Windows: 設定のオプション機能）".into(),
            Trouble::OldSsh(version) => format!("このPCの `ssh` は {version} です。8.4 以降に更新してください"),
            Trouble::Ssh(said) => format!("ssh が失敗しました: {said}"),
            Trouble::Silent(host, port) => format!("{host} のポート {port} から応答がありません。このPCの接続元アドレスがラボに登録されていないか、アカウントが停止されているか（ラボに確認してください）、途中のファイアウォールが遮っています"),
            Trouble::Refused(host, port) => format!("{host} には届きましたが、ポート {port} で受け付けていません。ゲートウェイが停止しています。ラボに確認してください"),
            Trouble::NoRoute(host) => format!("{host} への経路がありません。このPCはネットワークにつながっていますか"),
            Trouble::NoName(host) => format!("{host} という名前が見つかりません。このPCはネットワークにつながっていますか"),
            Trouble::Dropped(host) => format!("{host} が最初に接続を切りました。このアドレスからのログインが多すぎるか、登録されていません。1分後にもう一度試してください"),
            Trouble::KeyRefused(account) => format!("ゲートウェイはこのカードを {account} のものとして受け付けません。失効・期限切れ、別アカウントのカード、未登録の接続元、またはアカウント停止が考えられます。ラボに確認してください"),
            Trouble::CardUnused(said) => format!("ssh がカードを使えませんでした: {said}"),
            Trouble::AccountRefused(account) => format!("カードは正しいのですが、ゲートウェイは {account} を受け入れません。アカウントの停止・期間終了か、ラボの保守中です。ラボに確認してください"),
            Trouble::HostKey { pinned, shown } => format!("ゲートウェイの鍵がラボのものと違います。受信した鍵は {shown}、プロファイルの鍵は {} です。通信に割り込まれている恐れがあるため、何も送っていません。鍵の変更なら新しいプロファイルをラボに求めてください", pinned.join("、")),
            Trouble::PortTaken(port) => format!("このPCのポート {port} を別のプログラムが使い始めました。もう一度試してください"),
            Trouble::Lost => "ゲートウェイとの接続が切れました".into(),
            Trouble::Ended(host) => format!("{host} がセッションを終了しました"),
            Trouble::Closed(host) => format!("{host} がセッションを終了し、このPCに応答しなくなりました。アカウントの停止・期間終了か、ゲートウェイの再起動です。ラボに確認してください"),
            Trouble::Fetch(why) => format!("ポータルからプロファイルを取得できません: {why}"),
            Trouble::Stopped => "終了しました".into(),
        }
    }
}
