//! The words that rules are made of: matches, address and port expressions, comments.

use ipnet::IpNet;
use nftables::expr::{CT, Expression, NamedExpression, Payload, PayloadField, Prefix, Range, SetItem};
use nftables::stmt::{Match, Operator, Statement};

/// The kernel keeps 128 bytes of user data for a comment, a type-length header and a final zero included.
const COMMENT_BYTES_MAX: usize = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The networks of this family, as few as possible: nft refuses a set whose intervals overlap.
    pub(super) fn of(self, networks: &[IpNet]) -> Vec<IpNet> {
        let mut own: Vec<_> = networks
            .iter()
            .filter(|network| {
                matches!(
                    (self, network),
                    (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_))
                )
            })
            .map(IpNet::trunc)
            .collect();
        own = IpNet::aggregate(&own);
        own.sort();
        own
    }

    pub(super) fn set_name(self, number: usize) -> String {
        match self {
            Self::V4 => format!("g_{number}_v4"),
            Self::V6 => format!("g_{number}_v6"),
        }
    }
}

pub(super) fn port_range<'a>(first: u16, last: u16) -> Expression<'a> {
    if first == last {
        return Expression::Number(first.into());
    }
    let range = [Expression::Number(first.into()), Expression::Number(last.into())];
    Expression::Range(Box::new(Range { range }))
}

pub(super) fn network<'a>(network: IpNet) -> Expression<'a> {
    let addr = Expression::String(network.addr().to_string().into());
    if network.prefix_len() == network.max_prefix_len() {
        return addr;
    }
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(addr),
        len: network.prefix_len().into(),
    }))
}

pub(super) fn field<'a>(protocol: &'static str, field: &'static str) -> Expression<'a> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    })))
}

pub(super) fn ct_state<'a>() -> Expression<'a> {
    Expression::Named(NamedExpression::CT(CT {
        key: "state".into(),
        family: None,
        dir: None,
    }))
}

pub(super) fn text<'a>(value: &'static str) -> Expression<'a> {
    Expression::String(value.into())
}

pub(super) fn equals<'a>(left: Expression<'a>, right: Expression<'a>) -> Statement<'a> {
    Statement::Match(Match {
        left,
        right,
        op: Operator::EQ,
    })
}

/// For values that are sets of bits, such as a connection's state.
pub(super) fn matches_any<'a>(left: Expression<'a>, flags: Vec<Expression<'a>>) -> Statement<'a> {
    Statement::Match(Match {
        left,
        right: Expression::List(flags),
        op: Operator::IN,
    })
}

pub(super) fn in_set<'a>(left: Expression<'a>, elements: Vec<Expression<'a>>) -> Statement<'a> {
    let set = elements.into_iter().map(SetItem::Element).collect();
    equals(left, Expression::Named(NamedExpression::Set(set)))
}

/// A comment that the kernel has room for and that survives `nft list` into a file and back: nft does not escape quotes.
pub(super) fn comment(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_graphic() && c != '"' && c != '\\' || c == ' ' {
                c
            } else {
                '_'
            }
        })
        .take(COMMENT_BYTES_MAX)
        .collect()
}
