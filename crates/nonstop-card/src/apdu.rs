//! Commands and answers of a smart card (ISO 7816-4): short ones, chained where they are long.
//!
//! Extended lengths are never needed, so they are never used: a card that knows them knows
//! chaining too.

use thiserror::Error;
use zeroize::Zeroizing;

/// More than any object of a PIV card; a card that goes on longer is not followed.
const LONGEST_ANSWER: usize = 64 << 10;

/// A card that commands are sent to.
pub trait Link {
    /// Sends one command and gives the answer with its status at the end.
    ///
    /// Errors: what stands between us and the card.
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, LinkError>;
}

/// What stands between us and a card.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The card is not in the reader any more.
    #[error("the card is gone")]
    PulledOut,
    /// The reader is not there any more.
    #[error("the reader is gone")]
    ReaderVanished,
    /// pcscd is not there any more.
    #[error("pcscd is gone")]
    NoService,
    /// Card and reader are there, and nothing came back: another program reset the card, or it
    /// answers what is no answer.
    #[error("the card gave no answer ({0})")]
    NoAnswer(String),
}

/// A command; its bytes are wiped, since they may be a PIN's.
#[derive(Clone)]
pub struct Command {
    header: [u8; 4],
    data: Zeroizing<Vec<u8>>,
    answers: bool,
}

impl Command {
    /// A command without data that asks for none.
    pub fn new(ins: u8, p1: u8, p2: u8) -> Command {
        Command { header: [0, ins, p1, p2], data: Zeroizing::default(), answers: false }
    }

    /// With `data`, of any length.
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Command {
        self.data = Zeroizing::new(data.into());
        self
    }

    /// Asks for data.
    pub fn answered(mut self) -> Command {
        self.answers = true;
        self
    }

    /// As sent: all but the last are marked as to be continued.
    fn parts(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let [cla, ins, p1, p2] = self.header;
        let mut chunks: Vec<&[u8]> = self.data.chunks(255).collect();
        let last = chunks.pop().unwrap_or_default();
        let part = |cla: u8, chunk: &[u8], answers: bool| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(chunk.len() + 6));
            bytes.extend([cla, ins, p1, p2]);
            if let Ok(length @ 1..) = u8::try_from(chunk.len()) {
                bytes.push(length);
                bytes.extend_from_slice(chunk);
            }
            bytes.extend(answers.then_some(0));
            bytes
        };
        let chained = chunks.into_iter().map(|chunk| part(cla | 0x10, chunk, false));
        chained.chain([part(cla, last, self.answers)]).collect()
    }
}

/// What a card says about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 9000.
    Done,
    /// 6983, or no try left: no PIN is taken any more.
    Blocked,
    /// 63Cx: wrong, and so many tries are left; 6300 does not say how many.
    Wrong(Option<u8>),
    /// 6982: something has to be shown first.
    NotAllowed,
    /// 6A82, 6A88: no such application, object or key.
    NotFound,
    /// 6D00, 6E00, 6A81, 6A86: this card does not do that.
    Unknown,
    /// Anything else.
    Other(u16),
}

impl Status {
    /// What the two bytes mean. 6983 is looked for before a number of tries.
    pub fn of(word: u16) -> Status {
        match word {
            0x9000 => Status::Done,
            0x6983 | 0x63C0 => Status::Blocked,
            0x6300 => Status::Wrong(None),
            0x63C1..=0x63CF => Status::Wrong(Some((word & 0xf) as u8)),
            0x6982 => Status::NotAllowed,
            0x6A82 | 0x6A88 => Status::NotFound,
            0x6D00 | 0x6E00 | 0x6A81 | 0x6A86 => Status::Unknown,
            other => Status::Other(other),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What came, in all parts.
    pub data: Vec<u8>,
    /// What the card says about it.
    pub status: Status,
}

/// Sends `command` in as many parts as it takes, and fetches the answer in as many.
///
/// Errors: as [`Link::transmit`]; an answer of less than two bytes or more than 64 KiB.
pub fn exchange(link: &mut impl Link, command: &Command) -> Result<Answer, LinkError> {
    let mut parts = command.parts();
    let last = parts.pop().expect("there is always one");
    for part in parts {
        let (data, word) = split(link.transmit(&part)?)?;
        if word != 0x9000 {
            return Ok(Answer { data, status: Status::of(word) });
        }
    }
    let (mut data, mut word) = split(link.transmit(&last)?)?;
    // 6Cxx: the same once more, with the length that the card wants to be asked for.
    if let [0x6C, length] = word.to_be_bytes() {
        let mut again = last.clone();
        if command.answers {
            again.pop();
        }
        again.push(length);
        (data, word) = split(link.transmit(&again)?)?;
    }
    while let [0x61, length] = word.to_be_bytes() {
        let (more, then) = split(link.transmit(&[0, 0xC0, 0, 0, length])?)?;
        if data.len() + more.len() > LONGEST_ANSWER || (more.is_empty() && then == word) {
            return Err(LinkError::NoAnswer("its answer does not end".into()));
        }
        data.extend(more);
        word = then;
    }
    Ok(Answer { data, status: Status::of(word) })
}

fn split(mut answer: Vec<u8>) -> Result<(Vec<u8>, u16), LinkError> {
    let (Some(low), Some(high)) = (answer.pop(), answer.pop()) else {
        return Err(LinkError::NoAnswer("less than two bytes".into()));
    };
    Ok((answer, u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers in order, and what was sent.
    struct Script {
        answers: Vec<Vec<u8>>,
        sent: Vec<Vec<u8>>,
    }

    impl Link for Script {
        fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, LinkError> {
            self.sent.push(command.to_vec());
            Ok(self.answers.remove(0))
        }
    }

    fn run(command: &Command, answers: &[&[u8]]) -> (Result<Answer, LinkError>, Vec<Vec<u8>>) {
        let answers = answers.iter().map(|a| a.to_vec()).collect();
        let mut script = Script { answers, sent: vec![] };
        (exchange(&mut script, command), script.sent)
    }

    #[test]
    fn a_long_command_goes_in_parts_and_a_long_answer_comes_in_parts() {
        let command = Command::new(0x87, 7, 0x9A).data(vec![5; 300]).answered();
        let (answer, sent) =
            run(&command, &[&[0x90, 0], &[1, 0x61, 0], &[2, 0x61, 1], &[3, 0x90, 0]]);
        assert_eq!(answer, Ok(Answer { data: vec![1, 2, 3], status: Status::Done }));
        assert_eq!((sent[0][0], sent[0][4], sent[0].len()), (0x10, 255, 260));
        assert_eq!((sent[1][0], sent[1][4], sent[1].len()), (0, 45, 51));
        assert_eq!(
            (&sent[2][..], &sent[3][..]),
            (&[0, 0xC0, 0, 0, 0][..], &[0, 0xC0, 0, 0, 1][..])
        );
    }

    #[test]
    fn a_part_that_is_refused_ends_the_command() {
        let (answer, sent) =
            run(&Command::new(0xDB, 0x3F, 0xFF).data(vec![5; 600]), &[&[0x69, 0x82]]);
        assert_eq!(answer.expect("an answer").status, Status::NotAllowed);
        assert_eq!(sent.len(), 1);
    }

    #[test]
    fn a_card_that_names_the_length_is_asked_with_it() {
        let (answer, sent) = run(
            &Command::new(0xCB, 0x3F, 0xFF).data([1]).answered(),
            &[&[0x6C, 2], &[7, 8, 0x90, 0]],
        );
        assert_eq!(answer.expect("an answer").data, [7, 8]);
        assert_eq!(sent[1], [0, 0xCB, 0x3F, 0xFF, 1, 1, 2]);
    }

    #[test]
    fn a_blocked_card_is_told_from_a_wrong_pin() {
        assert_eq!(Status::of(0x6983), Status::Blocked);
        assert_eq!(Status::of(0x63C0), Status::Blocked);
        assert_eq!(Status::of(0x63C2), Status::Wrong(Some(2)));
    }

    #[test]
    fn answers_that_do_not_end_and_ones_that_are_none_are_errors() {
        let ask = Command::new(0xCB, 0x3F, 0xFF).answered();
        assert!(run(&ask, &[&[0x61, 9], &[0x61, 9]]).0.is_err());
        assert!(run(&ask, &[&[0x90]]).0.is_err());
    }
}
