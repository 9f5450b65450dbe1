//! The configuration that `reknit config init` writes: everything that can be said, none of it yet.

/// Comments alone; a test takes each `#` away and reads what is left.
pub(crate) const TEMPLATE: &str = r#"# The configuration of this home. Nothing needs it; what is written here has a name.
# `reknit config check` reads it, and a running daemon takes it up again on SIGHUP.

#[identity]                                 # nothing is served by a home that is
#peer = "atva6iv-fw6wawn-rj7hkma-wyl4jz6-gfj55op-pdz4kpd-lar3sfx-5rajjak" # another peer (`reknit id`)

#[serve]                                    # what `reknit serve` does unless it is told otherwise
#stores = ["data/cities"]                   # directories; relative paths begin beside this file
#listen = "0.0.0.0:7473"                    # the UDP address
#http = "127.0.0.1:7474"                    # health, metrics and jobs by HTTP; for this machine alone,
#http_token_file = "http.token"             # or for others, who then show this token
#max_delete = "10%"                         # what peers may delete here (unsaid: 10 %, from 10 to 10,000),
#max_change = "20%"                         # and overwrite,
#brake_window = "1h"                        # within so much time
#bandwidth = "50MiB"                        # bytes a second of the sessions with one peer, both ways,
#reads = 50000                              # and records that are read for them
#jobs_at_once = 2
#max_run = "6h"                             # a run of a job that takes longer is ended

#[gossip]                                   # fresh writes are told to peers at once, who join by any of these
# seeds = ["quic://PEER@host:7473/cities"]  # any peer that is up
#every = "10s"                              # one peer is met so often
#do = "check"                               # or "repair"
#proven_equal_within = "1h"                 # with each peer; `status` says when that is broken, and [alerts]
#advertise = "203.0.113.5:7473"             # where peers reach this node, if it cannot tell
#max_delete = "10%"                         # what all peers together may delete by what they push, within
#max_change = "20%"                         # brake_window; as in [serve], if it is not said
#brake_window = "1h"

#[peer.branch]                              # a peer, @branch/DATASET wherever a side is typed
#id = "lh4mfee-wnejaad-nb7errh-cad3wso-btwjjgm-5ad4vml-5nz7tzf-x7qk6mo"
#address = "branch.example:7473"            # where it is reached
#may = ["compare", "cities=read"]           # what it may here: what `reknit peers` says of it too is bounded by
#                                           # this, and this by that; who is removed there is not let in by this
#bandwidth = "500KiB"                       # rates of its own

#[alerts]                                   # whom a daemon tells what is wrong; `reknit alerts test` tries it out
# command = ["/usr/local/bin/page", "reknit"] # gets JSON on stdin; no shell
#webhook = "https://hooks.example/reknit"   # JSON is posted there
#webhook_header_file = "hook.header"        # a line `Authorization: Bearer ...` that goes along
#webhook_ca = "ca.pem"                      # who may vouch for it, in the place of the system's roots
#timeout = "10s"
#repeat = "4h"                              # what goes on is told again
#failures = 3                               # runs in a row that fail until it is told
#drift = "1h"                               # differences stand still for so long until it is told

#[store.pg]                                 # @pg, and @pg/TABLE, wherever a side is typed
#url = "postgres://reader@db.example/shop"
#password_file = "/etc/reknit/pg.password"  # or password_env, password_command

#[store.copy]
#url = "sqlite:copy.db"

#[dataset.orders]                           # what tables are compared on
#ignore = ["seen_at"]
#time_precision = "ms"

#[job.orders]                               # `reknit run orders`; the daemon runs it when it is due
#a = "pg/public.orders"
#b = "copy/orders"
#dataset = "orders"
#do = "check"                               # or "diff", "repair"
#every = "15m"                              # or at = "03:00"; neither: by hand alone
#clock = "Europe/Berlin"                    # of at and window; UTC unless it is said
#window = ["Mon-Fri 20:00-06:00", "Sat,Sun"]
#jitter = "1m"                              # due up to so much later, at random
#proven_equal_within = "1h"                 # `status` says when that is broken, and [alerts]
#max_time = "10m"                           # the session ends with what it knows then,
#max_bytes = "100MiB"                       # or after about so many bytes
#max_bytes_per_day = "2GiB"                 # a day of the clock: then none begins until the next
#max_time_per_day = "2h"

#[job.scrub]                                # a store of ours, read against its tree
#do = "verify"
#store = "data/cities"
#rate = 10000                               # records a second
#at = "04:00"
"#;
