package main

import (
	"trace/llm"
)

// composition counts what the context of a call consists of, in bytes of text
// and JSON.
type composition struct {
	System  int64 `json:"system"`
	Tools   int64 `json:"tools"`   // their definitions
	Results int64 `json:"results"` // of tools
	History int64 `json:"history"` // what was said before: prompts, answers, calls of tools
	User    int64 `json:"user"`    // what was asked last
	Media   int64 `json:"media"`   // images, audio, documents within messages
}

func (c *composition) add(d *composition) {
	if d == nil {
		return
	}
	c.System += d.System
	c.Tools += d.Tools
	c.Results += d.Results
	c.History += d.History
	c.User += d.User
	c.Media += d.Media
}

func (c *composition) total() int64 {
	return c.System + c.Tools + c.Results + c.History + c.User + c.Media
}

// compose counts the parts of a request; nil if it has none.
func compose(c *llm.Call) *composition {
	var k composition
	for i := range c.System {
		k.System += blockSize(&c.System[i], &k.Media)
	}
	for i := range c.Tools {
		k.Tools += toolSize(&c.Tools[i])
	}
	prompt := lastPrompt(c.Messages)
	for i := range c.Messages {
		m := &c.Messages[i]
		for j := range m.Blocks {
			b := &m.Blocks[j]
			n := blockSize(b, &k.Media)
			switch {
			case isSystemRole(m.Role):
				k.System += n
			case b.Kind == llm.ToolResult:
				k.Results += n
			case i == prompt:
				k.User += n
			default:
				k.History += n
			}
		}
	}
	if k == (composition{}) {
		return nil
	}
	return &k
}

func isSystemRole(role string) bool { return role == "system" || role == "developer" }

// blockSize returns the bytes of text and JSON of a block, and adds those of
// media to media.
func blockSize(b *llm.Block, media *int64) int64 {
	switch b.Kind {
	case llm.Image, llm.Audio, llm.Document:
		if len(b.Content) == 0 && b.Text == "" {
			*media += b.Size
			return int64(len(b.URL))
		}
	case llm.Other:
		return int64(len(b.Raw))
	}
	n := int64(len(b.Text) + len(b.Input) + len(b.Name))
	for i := range b.Content {
		n += blockSize(&b.Content[i], media)
	}
	return n
}

func toolSize(t *llm.Tool) int64 {
	if len(t.Raw) > 0 {
		return int64(len(t.Raw))
	}
	return int64(len(t.Name) + len(t.Description) + len(t.Schema))
}
