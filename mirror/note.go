package mirror

import "fmt"

// Kind says what a Note is about.
type Kind string

const (
	Both       Kind = "both"        // a port that both sides hold: no mirror of it on either
	Denied     Kind = "denied"      // a port that may not be bound on the other side: a privileged one
	Failed     Kind = "failed"      // a port that cannot be bound there for another reason; it is tried on
	Limit      Kind = "limit"       // more listeners than are mirrored
	HelperGone Kind = "helper_gone" // what makes sockets inside has ended: nothing new is mirrored
)

// A Note tells that something listens on one side and cannot be reached from
// the other. One is made for each port and kind, not for each attempt.
type Note struct {
	Kind  Kind
	Port  uint16 // 0 for HelperGone
	Child bool   // it is a listener of the child that the host does not see; else the other way round, or both ways for Both
	Err   error  // of Denied and Failed
}

// String returns a sentence for people.
func (n Note) String() string {
	whose, where, on := "the host's", "in the run", inside
	if n.Child {
		whose, where, on = "the child's", "on the host", outside
	}
	switch n.Kind {
	case Both:
		return fmt.Sprintf("port %d is held by the child and by the host: each reaches its own on localhost", n.Port)
	case Denied, Failed:
		return fmt.Sprintf("%s port %d cannot be reached %s: %v", whose, n.Port, where, n.Err)
	case Limit:
		return fmt.Sprintf("%s port %d cannot be reached %s: %d ports are mirrored already", whose, n.Port, where, on.limit())
	case HelperGone:
		return "the helper in the namespace ended: the host reaches no listener of the child on localhost any more, and the child no new one of the host"
	}
	return string(n.Kind)
}
