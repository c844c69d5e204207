//! Container names: what is allowed, and what is drawn where none is given.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A container's name, without the leading slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// A text that is no container name; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
pub struct InvalidName(String);

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::invalid(error.to_string())
            .hint("a name has at least two characters and begins with a letter or a digit")
    }
}

impl ContainerName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Draws a name: an adjective and the surname of someone who built engines, bridges or
    /// theories; from the second attempt on a digit follows.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random(attempt: u32) -> Result<Self> {
        let mut bytes = [0_u8; 5];
        sys::random::fill(&mut bytes)
            .map_err(|source| Error::system("cannot read random bytes", source))?;
        let pick = |list: &[&'static str], high: u8, low: u8| {
            list[usize::from(u16::from_be_bytes([high, low])) % list.len()]
        };
        let adjective = pick(ADJECTIVES, bytes[0], bytes[1]);
        let surname = pick(SURNAMES, bytes[2], bytes[3]);
        let digit = match attempt {
            0 => String::new(),
            _ => (bytes[4] % 10).to_string(),
        };
        Ok(Self(format!("{adjective}_{surname}{digit}")))
    }
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`: also the rule of volumes' names.
pub(crate) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2
        && bytes.len() <= 255
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

impl FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidName> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if is_name(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = InvalidName;

    fn try_from(text: String) -> std::result::Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const ADJECTIVES: &[&str] = &[
    "able", "agile", "airy", "alert", "amber", "ample", "apt", "arctic", "ardent", "astute",
    "autumn", "balmy", "blithe", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "careful", "cheery", "civil", "clear", "clever", "cosmic", "cosy", "crisp", "curious",
    "daring", "deft", "direct", "eager", "earnest", "easy", "even", "exact", "fair", "fleet",
    "fluent", "fond", "frank", "free", "fresh", "gentle", "glad", "golden", "good", "grand",
    "great", "green", "happy", "hardy", "hearty", "honest", "humble", "ideal", "jolly", "jovial",
    "just", "keen", "kind", "lively", "loyal", "lucid", "lucky", "lunar", "mellow", "merry",
    "mighty", "mild", "modest", "neat", "nimble", "noble", "novel", "open", "patient", "placid",
    "plain", "polite", "proud", "prompt", "pure", "quick", "quiet", "rapid", "ready", "robust",
    "royal", "rustic", "sage", "serene", "sharp", "silent", "silver", "simple", "smart", "smooth",
    "snug", "sober", "solar", "solid", "sound", "stable", "steady", "still", "stout", "strong",
    "sturdy", "sunny", "supple", "sure", "swift", "tidy", "tranquil", "true", "upbeat", "urban",
    "useful", "valiant", "vivid", "warm", "watchful", "wise", "witty", "young", "zesty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "ampere",
    "archimedes",
    "arkwright",
    "avogadro",
    "babbage",
    "bazalgette",
    "becquerel",
    "bell",
    "benz",
    "bernoulli",
    "bessel",
    "bohr",
    "boole",
    "bose",
    "boyle",
    "brahe",
    "brunel",
    "burnell",
    "cantor",
    "carnot",
    "cavendish",
    "cayley",
    "celsius",
    "church",
    "clausius",
    "copernicus",
    "coulomb",
    "curie",
    "dalton",
    "darby",
    "darwin",
    "davy",
    "descartes",
    "diesel",
    "dijkstra",
    "dirac",
    "doppler",
    "edison",
    "eiffel",
    "einstein",
    "erlang",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fibonacci",
    "flamsteed",
    "foucault",
    "fourier",
    "franklin",
    "fresnel",
    "galilei",
    "galois",
    "galvani",
    "gauss",
    "gibbs",
    "goedel",
    "goodall",
    "hadamard",
    "halley",
    "hamilton",
    "heaviside",
    "heisenberg",
    "helmholtz",
    "herschel",
    "hertz",
    "hilbert",
    "hollerith",
    "hooke",
    "hopper",
    "hubble",
    "huygens",
    "hypatia",
    "jacobi",
    "jacquard",
    "joule",
    "kelvin",
    "kepler",
    "kirchhoff",
    "kovalevskaya",
    "lagrange",
    "laplace",
    "lavoisier",
    "leavitt",
    "leibniz",
    "liskov",
    "lovelace",
    "mach",
    "marconi",
    "maxwell",
    "mccarthy",
    "meitner",
    "mendel",
    "mendeleev",
    "mercator",
    "monge",
    "morse",
    "napier",
    "navier",
    "newcomen",
    "newton",
    "nightingale",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "peano",
    "planck",
    "poincare",
    "poisson",
    "ramanujan",
    "ramsay",
    "riemann",
    "ritchie",
    "roebling",
    "rutherford",
    "schroedinger",
    "shannon",
    "siemens",
    "sierpinski",
    "smeaton",
    "somerville",
    "stephenson",
    "stirling",
    "stokes",
    "telford",
    "tesla",
    "torricelli",
    "turing",
    "volta",
    "watt",
    "weierstrass",
    "wheatstone",
    "wilkes",
    "wozniak",
    "wright",
    "young",
    "zuse",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_at_least_two_of_the_allowed_characters() {
        for (text, name) in [
            ("ab", "ab"),
            ("/web", "web"),
            ("a.b-c_d", "a.b-c_d"),
            ("0a", "0a"),
            ("A9", "A9"),
        ] {
            assert_eq!(text.parse::<ContainerName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(256);
        for text in [
            "", "a", "/", "/a", "//ab", "a!", "_ab", ".a", "-a", "a b", "a/b", "\u{e9}a", &long,
        ] {
            assert!(text.parse::<ContainerName>().is_err(), "{text}");
        }
        assert_eq!(
            "a!".parse::<ContainerName>().unwrap_err().to_string(),
            "Invalid container name (a!), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn drawn_names_have_dockers_form() {
        for attempt in 0..200 {
            let name = ContainerName::random(attempt % 2).unwrap();
            let (adjective, rest) = name.as_str().split_once('_').unwrap();
            let surname = rest.trim_end_matches(|c: char| c.is_ascii_digit());
            for part in [adjective, surname] {
                assert!(part.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
            }
            assert_eq!(
                rest.len() - surname.len(),
                usize::try_from(attempt % 2).unwrap()
            );
        }
    }

    #[test]
    fn nobody_is_called_boring() {
        assert!(!ADJECTIVES.contains(&"boring"));
        for list in [ADJECTIVES, SURNAMES] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]) || list.len() > 100);
        }
    }
}
