package redact

// EventsOf returns the state for one event stream of that framing, one of the
// Framing constants of package flow.
func (r *Redactor) EventsOf(framing, contentType string) *Events { return r.Events() }

// Messages returns the state for the data messages of one side of a websocket,
// each of which is an event.
func (r *Redactor) Messages() *Events { return r.Events() }

// Settle decides on all that is held back as it stands, and returns the events
// that were partial. The stream goes on.
func (e *Events) Settle() []Out { return e.Close() }
