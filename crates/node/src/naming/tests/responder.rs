//! A DNS server on loopback that says what a test tells it to, over UDP and TCP, and counts.

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{CNAME, TXT},
    },
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    sync::Notify,
    task::JoinHandle,
};

/// What is answered for one name.
#[derive(Clone)]
pub(super) enum Reply {
    /// TXT records and their TTL in seconds.
    Txt(Vec<String>, u32),
    /// Any records, whatever their names.
    Records(Vec<Record>),
    /// No records, and this code.
    Code(ResponseCode),
    /// These bytes after the query's id.
    Bytes(Vec<u8>),
    /// Over UDP only "truncated", over TCP the reply.
    OverTcp(Box<Reply>),
    /// Nothing at all.
    Silence,
    /// Nothing for so many queries, then the reply.
    AfterLoss(usize, Box<Reply>),
    /// The reply, once told to go on.
    Later(Arc<Notify>, Box<Reply>),
}

/// TXT records that may be kept for five minutes.
pub(super) fn txt<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Reply {
    Reply::Txt(texts.into_iter().map(Into::into).collect(), 300)
}

pub(super) fn txt_record(name: &str, text: &str, ttl: u32) -> Record {
    let strings: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
    Record::from_rdata(fqdn(name), ttl, RData::TXT(TXT::from_bytes(strings)))
}

pub(super) fn cname_record(name: &str, target: &str, ttl: u32) -> Record {
    Record::from_rdata(fqdn(name), ttl, RData::CNAME(CNAME(fqdn(target))))
}

fn fqdn(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}

#[derive(Default)]
struct Zone {
    replies: HashMap<String, Reply>,
    /// The ids of the queries for each name; a packet that is sent again has the same id.
    queries: HashMap<String, Vec<u16>>,
    over_tcp: usize,
}

/// The server; it ends when it is dropped. Names it does not know do not exist.
pub(super) struct Responder {
    pub(super) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    tasks: [JoinHandle<()>; 2],
}

impl Responder {
    pub(super) async fn new<'a>(replies: impl IntoIterator<Item = (&'a str, Reply)>) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The same port may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let tasks = [tokio::spawn(serve_udp(udp, zone.clone())), tokio::spawn(serve_tcp(tcp, zone.clone()))];
        let this = Self { address, zone, tasks };
        for (name, reply) in replies {
            this.set(name, reply);
        }
        this
    }

    /// Changes what is said for a name.
    pub(super) fn set(&self, name: &str, reply: Reply) {
        self.zone.lock().replies.insert(name.to_owned(), reply);
    }

    /// How often a name was asked for, packets sent again not counted.
    pub(super) fn queries(&self, name: &str) -> usize {
        self.zone.lock().queries.get(name).map_or(0, |ids| distinct(ids))
    }

    /// How often anything was asked for.
    pub(super) fn all_queries(&self) -> usize {
        self.zone.lock().queries.values().map(|ids| distinct(ids)).sum()
    }

    pub(super) fn over_tcp(&self) -> usize {
        self.zone.lock().over_tcp
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let (socket, zone, query) = (socket.clone(), zone.clone(), buffer[..length].to_vec());
        tokio::spawn(async move {
            if let Some(answer) = answer(&query, &zone, false).await {
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let zone = zone.clone();
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.ok()?;
                if let Some(answer) = answer(&query, &zone, true).await {
                    stream.write_u16(answer.len().try_into().unwrap()).await.ok()?;
                    stream.write_all(&answer).await.ok()?;
                }
            }
            Some(())
        });
    }
}

fn distinct(ids: &[u16]) -> usize {
    ids.iter().collect::<HashSet<_>>().len()
}

async fn answer(query: &[u8], zone: &Mutex<Zone>, over_tcp: bool) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let name = query.queries[0].name().to_ascii().trim_end_matches('.').to_owned();
    let (mut reply, asked) = {
        let mut zone = zone.lock();
        let asked = zone.queries.entry(name.clone()).or_default();
        asked.push(query.metadata.id);
        let asked = asked.len();
        zone.over_tcp += usize::from(over_tcp);
        (zone.replies.get(&name).cloned().unwrap_or(Reply::Code(ResponseCode::NXDomain)), asked)
    };
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.add_query(query.queries[0].clone());
    message.metadata.recursion_available = true;
    loop {
        match reply {
            Reply::Txt(texts, ttl) => {
                message.add_answers(texts.iter().map(|text| txt_record(&name, text, ttl)));
            }
            Reply::Records(records) => {
                message.add_answers(records);
            }
            Reply::Code(code) => message.metadata.response_code = code,
            Reply::Bytes(bytes) => {
                return Some([&query.metadata.id.to_be_bytes()[..], &bytes].concat());
            }
            Reply::OverTcp(inner) if over_tcp => {
                reply = *inner;
                continue;
            }
            Reply::OverTcp(_) => message.metadata.truncation = true,
            Reply::Silence => return None,
            Reply::AfterLoss(lost, _) if asked <= lost => return None,
            Reply::AfterLoss(_, inner) => {
                reply = *inner;
                continue;
            }
            Reply::Later(go, inner) => {
                go.notified().await;
                reply = *inner;
                continue;
            }
        }
        return Some(message.to_vec().unwrap());
    }
}
