package flow

import "strings"

// parseSSE reads one block of an event stream: its lines with any of the line
// endings LF, CRLF and CR, with or without the closing blank line (HTML
// standard, section 9.2.6). A leading byte order mark is skipped. Only blocks
// with data lines are events, others (comments, lone retry fields) are not.
func parseSSE(block []byte) ParsedEvent {
	var e ParsedEvent
	var data strings.Builder
	s := strings.TrimPrefix(string(block), "\ufeff")
	for s != "" {
		line := s
		if i := strings.IndexAny(s, "\r\n"); i >= 0 {
			line = s[:i]
			s = s[i:]
			if strings.HasPrefix(s, "\r\n") {
				s = s[2:]
			} else {
				s = s[1:]
			}
		} else {
			s = ""
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.Event = value
		case "data":
			if e.Dispatched {
				data.WriteByte('\n')
			}
			data.WriteString(value)
			e.Dispatched = true
		case "id":
			if !strings.Contains(value, "\x00") {
				e.ID = value
			}
		case "retry":
			e.Retry = value
		}
	}
	e.Data = data.String()
	return e
}
