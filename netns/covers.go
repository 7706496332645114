package netns

import (
	"io/fs"

	"ahead"
)

// Covers is what the child sees instead of the host's files. Contents lie in a tmpfs that only the child's mount namespace
// has. Trees are mounted first, then Files, Binds and Masks, each in order; symbolic links of a target are followed before
// anything is mounted. A cover that fails is a Note unless it is Required.
//
// If the host renames a new file over a covered path the kernel drops the cover silently: covers are never the only means.
type Covers struct {
	Dir   string // an empty directory that the tmpfs is mounted over; empty: the tmpfs has no place of its own
	Trees []Tree
	Files []File
	Binds []Bind
	Masks []string // sockets (or files) that /dev/null is bound over, so that connect is refused; what is not there is fine
}

// A Tree covers a directory with a copy of itself that differs in some files. Links are copied as links, so that the copy
// works wherever the original did. The child may write into the copy if it could write into the original.
type Tree struct {
	Target   string
	From     string            // directory copied; empty: Target
	Add      map[string][]byte // files added or replaced, by name in the tree
	Link     map[string]string // symbolic links added or replaced: name → what it points to
	Omit     []string          // names of the top level that are not copied
	Required bool
}

// A File covers a file with other contents. Where Target is a dangling symbolic link the link itself is covered. Where it
// lies in a Tree it is replaced there (and may be new). Without Target the file is only put into Covers.Dir.
type File struct {
	Target   string
	Name     string // in Covers.Dir; empty: a number
	Data     []byte
	Mode     fs.FileMode // 0 is 0644
	Required bool
}

// A Bind covers Target with Source, another file or directory of the host.
type Bind struct {
	Source, Target string
	Required       bool
}

// message is c with its contents moved to the raw part of the payload.
func (c *Covers) message(p *ahead.Payload) ahead.Covers {
	m := ahead.Covers{Dir: c.Dir, Masks: c.Masks}
	for _, t := range c.Trees {
		tm := ahead.Tree{Target: t.Target, From: t.From, Omit: t.Omit, Required: t.Required}
		for name, data := range t.Add {
			tm.Added = append(tm.Added, ahead.File{Name: name, Data: p.Add(data)})
		}
		for name, to := range t.Link {
			tm.Link = append(tm.Link, ahead.Link{Name: name, To: to})
		}
		m.Trees = append(m.Trees, tm)
	}
	for _, f := range c.Files {
		m.Files = append(m.Files, ahead.File{Target: f.Target, Name: f.Name, Data: p.Add(f.Data), Mode: f.Mode, Required: f.Required})
	}
	for _, b := range c.Binds {
		m.Binds = append(m.Binds, ahead.Bind(b))
	}
	return m
}
