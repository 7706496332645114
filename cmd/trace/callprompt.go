package main

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// A promptPart is a piece of what a user message says. Clients wrap what the
// user did not type into tags.
type promptPart struct {
	tag  string // "" of what was typed
	text string
}

// clientTags are the tags that clients put around what they add to a prompt:
// reminders, slash commands and what came of them, the state of an editor or of
// the directory.
var clientTags = []string{
	"system-reminder", "command-name", "command-message", "command-args", "command-contents",
	"local-command-stdout", "local-command-stderr", "local-command-caveat", "bash-input", "bash-stdout", "bash-stderr",
	"user-prompt-submit-hook", "session-start-hook", "ide_opened_file", "ide_selection", "ide_diagnostics", "task-notification",
	"environment_context", "environment_details", "user_instructions", "INSTRUCTIONS", "permissions instructions", "skill", "turn_aborted",
}

var openTag = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`<(` + strings.Join(clientTags, "|") + `)>`)
})

// promptParts takes the text of a user message apart.
func promptParts(text string) []promptPart {
	var parts []promptPart
	typed := func(s string) {
		if strings.TrimSpace(s) != "" {
			parts = append(parts, promptPart{text: s})
		}
	}
	for {
		at := openTag().FindStringSubmatchIndex(text)
		if at == nil {
			break
		}
		tag := text[at[2]:at[3]]
		inner := text[at[1]:]
		length := strings.Index(inner, "</"+tag+">")
		if length < 0 {
			break // a person wrote it
		}
		typed(text[:at[0]])
		parts = appendPart(parts, promptPart{tag, strings.TrimSpace(inner[:length])})
		text = inner[length+len("</>")+len(tag):]
	}
	typed(text)
	return parts
}

// slashCommand is the tag of parts that stand for a command of the client and
// its arguments.
const slashCommand = "slash-command"

// appendPart adds a part. Clients take slash commands apart into tags, in
// either order: they are joined.
func appendPart(parts []promptPart, p promptPart) []promptPart {
	last := len(parts) - 1
	switch p.tag {
	case "command-message": // the name again, for people
		return parts
	case "command-name":
		p.tag = slashCommand
	case "command-args":
		if last >= 0 && parts[last].tag == slashCommand {
			parts[last].text = strings.TrimSpace(parts[last].text + " " + p.text)
			return parts
		}
	}
	return append(parts, p)
}

// isTyped reports whether somebody typed part of the text.
func isTyped(text string) bool {
	for _, p := range promptParts(text) {
		switch p.tag {
		case "", slashCommand, "bash-input":
			return true
		}
	}
	return false
}

// lastPrompt returns the index of the message that the user wrote last: not
// the results of tools, nor what a client says in the user's name, unless
// there is nothing else. -1 if there is no message of the user.
func lastPrompt(ms []llm.Message) int {
	if i := typedPrompt(ms); i >= 0 {
		return i
	}
	said, any := -1, -1
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Role != "user" {
			continue
		}
		results := false
		for j := range ms[i].Blocks {
			b := &ms[i].Blocks[j]
			switch b.Kind {
			case llm.ToolResult:
				results = true
			case llm.Text:
				said = max(said, i)
			}
		}
		if !results {
			any = max(any, i)
		}
	}
	if said >= 0 {
		return said
	}
	return any
}

// typedPrompt returns the index of the last message of which somebody typed a
// part, -1 if there is none.
func typedPrompt(ms []llm.Message) int {
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Role != "user" {
			continue
		}
		for j := range ms[i].Blocks {
			if b := &ms[i].Blocks[j]; b.Kind == llm.Text && isTyped(b.Text) {
				return i
			}
		}
	}
	return -1
}

// promptSteps bounds how many turns back a prompt is looked for.
const promptSteps = 200

// findPrompt returns the message that the user wrote last. Requests that go on
// from an answer by its id need not repeat it: then it is looked for in the turns
// before. calls are those of d. nil if there is none.
func findPrompt(r *store.Reader, d *flow.Detail, calls []*llm.Call) *llm.Message {
	last := calls[len(calls)-1]
	for steps := 0; steps < promptSteps && len(calls) > 0; steps++ {
		for _, c := range slices.Backward(calls) {
			if i := typedPrompt(c.Messages); i >= 0 {
				return &c.Messages[i]
			}
		}
		if r == nil || calls[0].Previous == "" {
			break
		}
		ref := parseRef(findThread(r, &d.Exchange, calls).Previous)
		if ref.IsZero() || ref.Flow == d.ID {
			break
		}
		var err error
		if d, err = r.Detail(ref.Flow); err != nil {
			break
		}
		calls = llm.Read(d)
		calls = calls[:min(len(calls), ref.Call+1)]
	}
	if i := lastPrompt(last.Messages); i >= 0 {
		return &last.Messages[i]
	}
	return nil
}

// promptText writes a message of the user out, with the parts that nobody
// typed marked.
func promptText(m *llm.Message) string {
	var lines []string
	for i := range m.Blocks {
		b := &m.Blocks[i]
		switch b.Kind {
		case llm.Text:
			lines = append(lines, markedParts(promptParts(b.Text))...)
		case llm.ToolResult:
		default:
			lines = append(lines, "["+mediaText(b)+"]")
		}
	}
	return strings.Join(lines, "\n")
}

// markedParts writes parts out: a slash command on one line, other parts that
// nobody typed between marks.
func markedParts(parts []promptPart) []string {
	var lines []string
	for _, p := range parts {
		switch p.tag {
		case "":
			lines = append(lines, strings.Trim(p.text, "\n"))
		case slashCommand:
			lines = append(lines, "["+p.tag+"] "+p.text)
		default:
			lines = append(lines, "["+p.tag+"]", p.text, "[/"+p.tag+"]")
		}
	}
	return lines
}
