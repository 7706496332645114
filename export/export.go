// Package export writes recorded exchanges in the formats of other tools.
//
// The live event log, one JSON object a line, is written by [JSONL]:
//
//	log := &export.JSONL{W: file, Body: reader.Body}
//	log.Meta(session)
//	log.Opened(x) // and Requested, Responded, Streamed, Done as they happen
//
// The package reads nothing by itself: whoever follows a session calls it,
// and what it is handed has been through the redaction gate already.
package export
