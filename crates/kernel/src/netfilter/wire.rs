//! How nftables is spoken to: messages in a batch, attributes in attributes.

use crate::sock_diag::message::Header;

// include/uapi/linux/netfilter/nfnetlink.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NESTED: u16 = 1 << 15;

/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`, as packets are asked for them.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// The sets, as CRIU names them, each with the family of its packets.
pub(super) const SETS: [(&str, u8); 2] = [("conns4", IPV4), ("conns6", IPV6)];

/// The sets of addresses that connections are asked for at; the last is of ports alone, at any.
pub(super) const DOORS: [(&str, Option<u8>); 3] =
    [("doors4", Some(IPV4)), ("doors6", Some(IPV6)), ("doors", None)];

/// The chains, each with its hook (`NF_INET_LOCAL_OUT`, `NF_INET_LOCAL_IN`).
pub(super) const CHAINS: [(&str, u32); 2] = [("output", 3), ("input", 1)];

// enum nf_tables_msg_types.
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;

/// `NFT_TABLE_F_OWNER`.
const OWNED: u32 = 2;
/// Every list has its items under this.
const LIST_ELEM: u16 = 1;
/// `NFT_REG_VERDICT`, and the first register of four bytes.
const VERDICT: u32 = 0;
const FIRST: u32 = 8;
const ACCEPT: u32 = 1;
const DROP: u32 = 0;

/// Attributes, one after the other.
#[derive(Default)]
pub(super) struct Nest(Vec<u8>);

impl Nest {
    fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        const HEADER: usize = 4;
        let len = u16::try_from(HEADER + value.len()).expect("attributes are short");
        self.0.extend([len, kind].map(u16::to_ne_bytes).as_flattened());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number, in the order of the network.
    fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    fn nest(self, kind: u16, inner: Self) -> Self {
        self.bytes(NESTED | kind, &inner.0)
    }
}

/// Changes that are made together or not at all.
pub(super) struct Batch {
    messages: Vec<(Header, Vec<u8>)>,
}

/// `struct nfgenmsg`: family, version, and a number in the order of the
/// network.
fn general(family: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![family, 0, high, low]
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { messages: Vec::new() }
    }

    fn add(&mut self, message: u16, flags: i32, attributes: Nest) {
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        let header = Header { kind: SUBSYSTEM << 8 | message, flags };
        self.messages.push((header, [general(INET, 0), attributes.0].concat()));
    }

    /// As it is sent: the last message asks for an answer.
    pub(super) fn into_datagram(mut self) -> Vec<u8> {
        if let Some((header, _)) = self.messages.last_mut() {
            header.flags |= libc::NLM_F_ACK as u16;
        }
        let limit =
            |kind| (Header { kind, flags: libc::NLM_F_REQUEST as u16 }, general(0, SUBSYSTEM));
        let all = std::iter::once(limit(BATCH_BEGIN)).chain(self.messages);
        let all = all.chain(std::iter::once(limit(BATCH_END)));
        let mut datagram = Vec::new();
        for (header, body) in all {
            datagram.extend(header.with(&body));
            datagram.resize(datagram.len().next_multiple_of(4), 0);
        }
        datagram
    }

    pub(super) fn table(&mut self, name: &str, owned: bool) {
        let flags = if owned { OWNED } else { 0 };
        let table = Nest::default().text(1, name).number(2, flags);
        self.add(NEWTABLE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, table);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.add(DELTABLE, 0, Nest::default().text(1, name));
    }

    /// A chain of a hook, which lets everything through.
    pub(super) fn chain(&mut self, table: &str, name: &str, hook: u32) {
        let hook = Nest::default().number(1, hook).number(2, 0);
        let chain = Nest::default().text(1, table).text(3, name).nest(4, hook);
        self.add(NEWCHAIN, libc::NLM_F_CREATE, chain.number(5, ACCEPT).text(7, "filter"));
    }

    /// A set of connections; `family` is that of their packets.
    pub(super) fn set(&mut self, table: &str, name: &str, family: u8) {
        let address = address_kind(family);
        let len = 2 * (address_len(family) + 4);
        self.any_set(table, name, (&[address, PORT, address, PORT], len), family);
    }

    /// A set of addresses with ports, or of ports.
    pub(super) fn doors(&mut self, table: &str, name: &str, family: Option<u8>) {
        match family {
            None => self.any_set(table, name, (&[PORT], 2), 0),
            Some(family) => {
                let kinds = [address_kind(family), PORT];
                self.any_set(table, name, (&kinds, address_len(family) + 4), family);
            }
        }
    }

    /// A set of keys that have these parts and so many bytes; `number` tells it
    /// from others of the batch.
    fn any_set(&mut self, table: &str, name: &str, (parts, len): (&[u32], u32), number: u8) {
        let kind = parts.iter().fold(0, |all, one| all << 6 | one);
        let set = Nest::default().text(1, table).text(2, name).number(3, 0);
        let set = set.number(4, kind).number(5, len).number(10, number.into());
        self.add(NEWSET, libc::NLM_F_CREATE, set);
    }

    pub(super) fn elements(&mut self, table: &str, set: &str, keys: &[Vec<u8>]) {
        let mut list = Nest::default();
        for key in keys {
            let key = Nest::default().nest(1, Nest::default().bytes(1, key));
            list = list.nest(LIST_ELEM, key);
        }
        let elements = Nest::default().text(1, table).text(2, set).nest(3, list);
        self.add(NEWSETELEM, libc::NLM_F_CREATE, elements);
    }

    fn rule(&mut self, table: &str, chain: &str, expressions: impl IntoIterator<Item = Nest>) {
        let list = expressions
            .into_iter()
            .fold(Nest::default(), |list, expression| list.nest(LIST_ELEM, expression));
        let rule = Nest::default().text(1, table).text(2, chain).nest(4, list);
        self.add(NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, rule);
    }

    /// A rule by which packets with a mark pass.
    pub(super) fn pass_marked(&mut self, table: &str, chain: &str, mark: u32) {
        const MARK: u32 = 3;
        self.rule(table, chain, [meta(MARK), equals(&mark.to_ne_bytes()), verdict(ACCEPT)]);
    }

    /// A rule by which packets of the connections in a set are dropped.
    pub(super) fn drop_listed(&mut self, table: &str, chain: &str, (set, family): (&str, u8)) {
        const FAMILY: u32 = 15;
        const PROTOCOL: u32 = 16;
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        let len = address_len(family);
        let (source, destination) = if family == IPV4 { (12, 16) } else { (8, 24) };
        let words = len / 4;
        let lookup = Nest::default().text(1, set).number(2, FIRST);
        self.rule(
            table,
            chain,
            [
                meta(FAMILY),
                equals(&[family]),
                meta(PROTOCOL),
                equals(&[libc::IPPROTO_TCP as u8]),
                payload(FIRST, NETWORK, (source, len)),
                payload(FIRST + words, TRANSPORT, (0, 2)),
                payload(FIRST + words + 1, NETWORK, (destination, len)),
                payload(FIRST + 2 * words + 1, TRANSPORT, (2, 2)),
                expression("lookup", lookup),
                verdict(DROP),
            ],
        );
    }

    /// A rule by which what comes in to ask for a connection is dropped, if it
    /// does so at an address in a set.
    pub(super) fn drop_new(&mut self, table: &str, (set, family): (&str, Option<u8>)) {
        const FAMILY: u32 = 15;
        const PROTOCOL: u32 = 16;
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        const FLAGS: u32 = 13;
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        let [(_, _), (input, _)] = CHAINS;
        let mut rule = Vec::new();
        let mut words = 0;
        if let Some(family) = family {
            rule.extend([meta(FAMILY), equals(&[family])]);
            words = address_len(family) / 4;
        }
        rule.extend([
            meta(PROTOCOL),
            equals(&[libc::IPPROTO_TCP as u8]),
            payload(FIRST, TRANSPORT, (FLAGS, 1)),
            masked(SYN | ACK),
            equals(&[SYN]),
        ]);
        if let Some(family) = family {
            let destination = if family == IPV4 { 16 } else { 24 };
            rule.push(payload(FIRST, NETWORK, (destination, address_len(family))));
        }
        rule.push(payload(FIRST + words, TRANSPORT, (2, 2)));
        rule.push(expression("lookup", Nest::default().text(1, set).number(2, FIRST)));
        rule.push(verdict(DROP));
        self.rule(table, input, rule);
    }
}

/// What nft(8) calls `inet_service`.
const PORT: u32 = 13;

/// What it calls `ipv4_addr` and `ipv6_addr`.
fn address_kind(family: u8) -> u32 {
    if family == IPV4 { 7 } else { 8 }
}

/// Bytes.
fn address_len(family: u8) -> u32 {
    if family == IPV4 { 4 } else { 16 }
}

fn expression(name: &str, data: Nest) -> Nest {
    Nest::default().text(1, name).nest(2, data)
}

/// Loads what the kernel knows of a packet.
fn meta(key: u32) -> Nest {
    expression("meta", Nest::default().number(1, FIRST).number(2, key))
}

/// Goes on if what was loaded is this.
fn equals(value: &[u8]) -> Nest {
    let value = Nest::default().bytes(1, value);
    expression("cmp", Nest::default().number(1, FIRST).number(2, 0).nest(3, value))
}

/// Clears all other bits of the byte that was loaded.
fn masked(mask: u8) -> Nest {
    let value = |byte: u8| Nest::default().bytes(1, &[byte]);
    let bitwise = Nest::default().number(1, FIRST).number(2, FIRST).number(3, 1);
    expression("bitwise", bitwise.nest(4, value(mask)).nest(5, value(0)))
}

/// Loads bytes of a header.
fn payload(register: u32, base: u32, (offset, len): (u32, u32)) -> Nest {
    let payload = Nest::default().number(1, register).number(2, base);
    expression("payload", payload.number(3, offset).number(4, len))
}

fn verdict(code: u32) -> Nest {
    let verdict = Nest::default().nest(2, Nest::default().number(1, code));
    expression("immediate", Nest::default().number(1, VERDICT).nest(2, verdict))
}
