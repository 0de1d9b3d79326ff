//! The TCP address on which a job listens, and the token that clients must know.
//!
//! - An address that other machines can reach requires a token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use floodmark_engine::edge::regular_file;

/// Shortest token in bytes: shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// Longest content of a file with a token, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;

/// A secret that clients must present.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// A token from text, without the white space around it.
    ///
    /// # Errors
    /// When it is too short, or contains characters that a header cannot have.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < TOKEN_BYTES_MIN {
            return Err(TokenError::Short { len: text.len() });
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::NotAscii);
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// Compares in constant time, so that the time does not tell how much of it is right.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        let pairs = self.0.iter().zip(shown);
        let differing = pairs.fold(0, |differing, (ours, theirs)| differing | (ours ^ theirs));
        std::hint::black_box(differing) == 0
    }
}

/// The reason why a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Its file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    /// It is so short that it could be guessed.
    #[error(
        "it has {len} characters, but needs at least {TOKEN_BYTES_MIN}; `openssl rand -hex 32` makes one"
    )]
    Short {
        /// Its length in bytes.
        len: usize,
    },
    /// It contains characters that a header cannot have.
    #[error("it may contain only ASCII letters, digits and punctuation")]
    NotAscii,
}

/// The reason why a job cannot listen on TCP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The text is not an address.
    #[error(
        "`--listen {typed}` is not an address; give `:PORT` for this machine alone, or `ADDRESS:PORT` such as `127.0.0.1:8081` or `[::1]:8081`"
    )]
    Address {
        /// The text as typed.
        typed: String,
    },
    /// The token cannot be used.
    #[error("cannot use the token of `{from}`: {reason}")]
    Token {
        /// The file or variable that has the token.
        from: String,
        /// Why the token cannot be used.
        reason: TokenError,
    },
    /// Other machines could control the job without a token.
    #[error(
        "`--listen {address}` lets other machines control the job, so it needs a token; give one with `--listen-token-file FILE` or in `FLOODMARK_TOKEN`, or listen on `127.0.0.1:{}`",
        address.port()
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// The system refused to listen.
    #[error("cannot listen on `{address}`: {source}; give another `--listen`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

/// An address to listen on, with its token.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// The token that clients must present, if any.
    pub token: Option<Token>,
}

impl Listen {
    /// Combines the typed address with a token from a file or from the environment; the file takes precedence.
    ///
    /// # Errors
    /// When the address is invalid, the token is invalid, or a required token is missing.
    pub fn new(
        typed: &str,
        token_file: Option<&PathBuf>,
        token: Option<String>,
    ) -> Result<Self, ListenError> {
        let address = parse(typed).ok_or_else(|| ListenError::Address {
            typed: typed.to_owned(),
        })?;
        let token = match token_file {
            Some(path) => {
                let from = path.display().to_string();
                let read = regular_file::read_short_text(path, TOKEN_FILE_BYTES_MAX);
                let read = read.map_err(TokenError::from);
                Some((from, read))
            }
            None => token.map(|token| ("FLOODMARK_TOKEN".to_owned(), Ok(token))),
        };
        let token = token.map(|(from, text)| {
            let token = text.and_then(|text| Token::new(&text));
            token.map_err(|reason| ListenError::Token { from, reason })
        });
        let token = token.transpose()?;
        if token.is_none() && !address.ip().is_loopback() {
            return Err(ListenError::Open { address });
        }
        Ok(Self { address, token })
    }
}

fn parse(typed: &str) -> Option<SocketAddr> {
    let localhost = |port: &str| {
        let port = port.parse().ok()?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    };
    match typed.strip_prefix("localhost:").or(typed.strip_prefix(':')) {
        Some(port) => localhost(port),
        None => typed.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    //! Catches an address that is taken for a local one although it is not, and an invalid token that is accepted.

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[track_caller]
    fn check(typed: &str, token: Option<&str>, expected: Result<&str, &str>) {
        let listen = Listen::new(typed, None, token.map(str::to_owned));
        match (listen, expected) {
            (Ok(listen), Ok(address)) => {
                assert_eq!(listen.address.to_string(), address);
                assert_eq!(listen.token.is_some(), token.is_some());
            }
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{error}");
            }
            (listen, _) => panic!("{listen:?}"),
        }
    }

    #[test]
    fn other_machines_need_a_token() {
        check(":8081", None, Ok("127.0.0.1:8081"));
        check("localhost:1", None, Ok("127.0.0.1:1"));
        check("127.3.2.1:0", None, Ok("127.3.2.1:0"));
        check("[::1]:0", None, Ok("[::1]:0"));
        for open in [
            "0.0.0.0:8081",
            "[::]:8081",
            "10.0.0.1:8081",
            "[::ffff:127.0.0.1]:8081",
        ] {
            check(open, None, Err("needs a token"));
            check(open, Some(TOKEN), Ok(open));
        }
        for wrong in [
            "",
            ":",
            "8081",
            "example.org:80",
            "127.0.0.1",
            ":70000",
            "::1:80:",
        ] {
            check(wrong, None, Err("is not an address"));
        }
        check(":1", Some("short"), Err("needs at least 16"));
        check(
            ":1",
            Some("0123456789abcdef\u{e9}"),
            Err("only ASCII letters"),
        );
        check(":1", Some("0123456789 abcdef"), Err("only ASCII letters"));
        check(":1", Some(" 0123456789abcdef\n"), Ok("127.0.0.1:1"));
    }

    #[test]
    fn a_token_is_itself_alone() {
        let token = Token::new(TOKEN).unwrap();
        assert!(token.is(TOKEN.as_bytes()));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdefg",
            "0123456789abcdeF",
        ] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
