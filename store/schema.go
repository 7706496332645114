package store

import "fmt"

// applicationID marks a SQLite file as a session of trace ("trac").
const applicationID = 0x74726163

// schemaVersion is PRAGMA user_version of the files that this package writes
// and the highest that it reads. It reads all before it. 1 had neither events
// of requests nor the parts of the wire form, and numbered the pieces of a
// segment without gaps; 2 had no call.
const schemaVersion = 3

// schema creates the tables. Times are microseconds since 1970 UTC, durations
// microseconds. What belongs to lists stands in narrow columns; the rest of
// an exchange is one document in detail.
//
//   - session: one row. ended is NULL until the run ended in order.
//   - note: marks on the run; gap tells those of events that were not recorded.
//   - conn: a connection; facts is a JSON document, chain a recipe of the
//     server's certificates.
//   - flow: a row of lists, without heads and bodies. rev is the number of
//     the burst that brought the last news of the flow, changed of that which
//     wrote the row: the cursors of followers.
//   - detail: the document of the flow with heads, hashes and marks.
//   - body: a body in one or more segments. part 0 is the request's, 1 the
//     answer's, 2 messages; 3 is the request as it was on the wire, 4 the
//     answer. The indexes of the events or messages in the segment lie from
//     first to before first+count; their lengths and times stand in times.
//   - pack: new chunks of bodies, compressed together. idx holds length and
//     hash of each.
//   - tail: events and messages of flows that still run. The transaction
//     that writes them to body deletes them here.
//   - call: what readers found out about a flow, see Annotate.
const schema = `
CREATE TABLE session(
 id TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, argv TEXT NOT NULL, dir TEXT NOT NULL,
 pid INTEGER NOT NULL, pid_start INTEGER NOT NULL, version TEXT NOT NULL, link TEXT NOT NULL, device TEXT NOT NULL,
 started INTEGER NOT NULL, ended INTEGER, exit INTEGER, secrets INTEGER NOT NULL);
CREATE TABLE note(id INTEGER PRIMARY KEY, rev INTEGER NOT NULL, at INTEGER NOT NULL, gap INTEGER NOT NULL, error TEXT NOT NULL);
CREATE TABLE conn(
 id INTEGER PRIMARY KEY, rev INTEGER NOT NULL, started INTEGER, ended INTEGER, host TEXT, dst TEXT,
 protocol TEXT, decrypted INTEGER, opaque TEXT, facts TEXT NOT NULL, chain BLOB);
CREATE INDEX conn_rev ON conn(rev);
CREATE TABLE flow(
 id INTEGER PRIMARY KEY AUTOINCREMENT, rev INTEGER NOT NULL, changed INTEGER NOT NULL, conn INTEGER NOT NULL, ordinal INTEGER NOT NULL,
 kind TEXT NOT NULL, state TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER,
 method TEXT, scheme TEXT, host TEXT, port INTEGER, path TEXT, status INTEGER, type TEXT, streaming INTEGER,
 sent INTEGER, received INTEGER, events INTEGER, opaque TEXT, redacted INTEGER NOT NULL, error TEXT);
CREATE INDEX flow_rev ON flow(rev);
CREATE INDEX flow_started ON flow(started);
CREATE TABLE detail(flow INTEGER PRIMARY KEY, doc BLOB NOT NULL);
CREATE TABLE body(
 flow INTEGER NOT NULL, part INTEGER NOT NULL, seq INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
 size INTEGER NOT NULL, recipe BLOB NOT NULL, times BLOB, PRIMARY KEY(flow, part, seq)) WITHOUT ROWID;
CREATE TABLE pack(first INTEGER PRIMARY KEY, count INTEGER NOT NULL, raw INTEGER NOT NULL, idx BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE tail(
 flow INTEGER NOT NULL, seq INTEGER NOT NULL, ord INTEGER NOT NULL, idx INTEGER NOT NULL, at INTEGER NOT NULL, flags INTEGER NOT NULL,
 opcode INTEGER NOT NULL, size INTEGER NOT NULL, sum BLOB, data BLOB NOT NULL, PRIMARY KEY(flow, seq)) WITHOUT ROWID;
CREATE TABLE call(flow INTEGER PRIMARY KEY, doc BLOB NOT NULL);
`

// The parts of a flow that have bytes.
const (
	partRequest  = 0 // those of the bodies are the numbers of their sides
	partResponse = 1
	partMessages = 2
	partRaw      = 3 // and the number of the side
	parts        = 5
)

// lay writes the schema, and what fill adds in the same transaction, into the
// new, empty file and switches it to WAL. On a
// network file system, where the shared memory that WAL needs does not exist,
// it keeps a rollback journal and returns the reason.
func lay(d *db, path string, fill func() error) (why string, err error) {
	// Power loss during creation costs an empty session: no fsync is worth it.
	err = d.script(fmt.Sprintf("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF; BEGIN; PRAGMA application_id=%d; PRAGMA user_version=%d; %s",
		applicationID, schemaVersion, schema))
	if err == nil {
		err = fill()
	}
	if err == nil {
		err = d.script("COMMIT")
	}
	if err != nil {
		return "", err
	}
	if why = network(path); why == "" {
		r, err := d.one("PRAGMA journal_mode=WAL")
		switch {
		case err != nil:
			why = err.Error()
		case len(r) == 0 || r.text(0) != "wal":
			why = "the file system has no shared memory"
		}
	}
	mode := ""
	if why != "" {
		mode = "PRAGMA journal_mode=TRUNCATE;"
	}
	// The read makes SQLite open the log: the file may lose its name soon.
	return why, d.script(mode + "PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=8388608; PRAGMA wal_autocheckpoint=1000; SELECT id FROM session")
}
