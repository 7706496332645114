package export

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"trace/llm"
)

// page is what the template is given.
type page struct {
	Title         string
	Style         template.CSS
	Policy        string
	Conversations []*conversation
	Sessions      string
}

// pageStyle is all the style there is; the policy of the page names its hash.
const pageStyle = `
:root { color-scheme: light dark; --ground: #fff; --text: #1c1e21; --faint: #5c6470; --line: #d9dde3; --user: #eef4ff; --tool: #f5f5f0; --bad: #b3261e; --accent: #2456b8 }
@media (prefers-color-scheme: dark) { :root { --ground: #16181c; --text: #e4e6ea; --faint: #9aa3b0; --line: #333941; --user: #1d2838; --tool: #22241f; --bad: #ff8a80; --accent: #8ab4f8 } }
body { background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; border-top: 2px solid var(--line); padding-top: 1rem; margin-top: 2.5rem }
h1, h2, .text { overflow-wrap: anywhere; unicode-bidi: isolate }
pre, .text { white-space: pre-wrap; margin: .3rem 0; unicode-bidi: isolate; overflow-wrap: anywhere }
pre { font: 13px/1.45 ui-monospace, monospace }
.facts, .note, .role, summary { color: var(--faint); font-size: .85rem }
.facts { border-top: 1px solid var(--line); margin-top: 1.2rem; padding-top: .3rem }
.note { font-style: italic; margin: .8rem 0 }
.message > .role { text-transform: uppercase; letter-spacing: .05em }
.message { margin: .6rem 0; padding: .4rem .8rem; border-radius: .4rem; border: 1px solid transparent }
.user { background: var(--user) }
.tool, .folded { background: var(--tool); border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .8rem; margin: .4rem 0 }
.name { color: var(--accent); font-family: ui-monospace, monospace }
.bad { color: var(--bad) }
summary { cursor: pointer }
img { max-width: 100%; max-height: 30rem }
nav ol { padding-left: 1.4rem }
a { color: var(--accent) }
`

// pageTemplate is escaped by its context: html/template knows where it stands.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"usage": usageText, "seconds": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") },
	"join": func(s []string) string { return strings.Join(s, ", ") }, "side": sideClass, "long": isLong,
	"picture": func(s string) template.URL { return template.URL(s) }, // made by imageOf of nothing but base64
}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{.Policy}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>{{.Title}}</title>
<style>{{.Style}}</style>
</head>
<body>
<h1>{{.Title}}</h1>
<p class="role">Recorded by trace, {{.Sessions}}. Secrets are replaced by [REDACTED:…].</p>
{{if gt (len .Conversations) 1}}<nav><ol>{{range .Conversations}}
<li><a href="#{{.Anchor}}">{{or .Title "untitled"}}</a> <span class="role">{{template "total" .}}</span></li>{{end}}
</ol></nav>{{end}}
{{range .Conversations}}<section id="{{.Anchor}}">
<h2>{{or .Title "untitled"}}</h2>
<p class="note">{{template "total" .}}{{if .Parent}}; started by <a href="#{{.Parent}}">another conversation</a>{{if .Via}}, tool {{.Via}}{{end}}{{end}}</p>
{{range .Entries}}{{template "entry" .}}{{end}}</section>
{{end}}</body>
</html>
{{define "total"}}{{join .Models}}, {{.Calls}} {{if eq .Calls 1}}call{{else}}calls{{end}}, {{seconds .Started}}{{if .Counted}}, {{usage .Usage}}{{end}}{{end}}
{{define "entry"}}{{if .Note}}<p class="note">{{.Note}}</p>
{{else if .Call}}{{with .Call}}<p class="facts" id="flow-{{.ID}}">call {{.ID}} · {{.Model}} · {{.At}}{{if .First}} · first after {{.First}}{{end}}{{if .Took}} · {{.Took}}{{end}}{{if .Usage}} · {{usage .Usage}}{{end}}{{if .Stop}} · {{.Stop}}{{end}}{{if .Error}} · <span{{if .Failed}} class="bad"{{end}}>{{.Error}}</span>{{end}}</p>
{{end}}{{else if .Title}}<details class="folded"><summary>{{.Title}}</summary>
{{range .Blocks}}{{template "block" .}}{{end}}{{range .Tools}}<p class="name">{{.Name}}</p><div class="text">{{.Description}}</div>{{if .Schema}}<details><summary>input</summary><pre>{{.Schema}}</pre></details>{{end}}
{{end}}</details>
{{else}}<div class="message {{side .Role}}"><div class="role">{{.Role}}</div>
{{range .Blocks}}{{template "block" .}}{{end}}</div>
{{end}}{{end}}
{{define "block"}}{{if or (eq .Kind "text") (eq .Kind "refusal")}}<div class="text{{if eq .Kind "refusal"}} bad{{end}}">{{.Text}}</div>
{{else if eq .Kind "tool_call"}}<div class="tool"><span class="name">{{or .Label "tool"}}</span>{{if long .Text}}<details><summary>input</summary><pre>{{.Text}}</pre></details>{{else}}<pre>{{.Text}}</pre>{{end}}
{{range .Results}}{{template "result" .}}{{end}}</div>
{{else if eq .Kind "tool_result"}}<div class="tool">{{template "result" .}}</div>
{{else if .Image}}<img alt="{{.Label}}" src="{{picture .Image}}"><div class="role">{{.Label}}</div>
{{else}}<details class="folded"><summary>{{.Label}}</summary><pre>{{.Text}}</pre>{{range .Inner}}{{template "block" .}}{{end}}</details>
{{end}}{{if .Cache}}<p class="note">cached up to here</p>
{{end}}{{end}}
{{define "result"}}<details{{if not (long .Text)}}{{if lt (len .Inner) 2}} open{{end}}{{end}}><summary{{if .Error}} class="bad"{{end}}>{{.Label}}{{if .Error}}, an error{{end}}</summary>{{if .Text}}<pre>{{.Text}}</pre>{{end}}{{range .Inner}}{{if eq .Kind "text"}}<pre>{{.Text}}</pre>{{else}}{{template "block" .}}{{end}}{{end}}</details>
{{end}}`))

// writePage writes the page of these conversations.
func writePage(w io.Writer, all []*conversation) error {
	p := page{Title: "Conversation", Style: pageStyle, Conversations: all}
	if t := all[0].Title; t != "" {
		p.Title = t
	}
	var sessions []string
	for _, v := range all {
		if n := len(sessions); n == 0 || sessions[n-1] != v.Session {
			sessions = append(sessions, v.Session)
		}
	}
	if p.Sessions = "session " + sessions[0]; len(sessions) > 1 {
		p.Sessions = "sessions " + strings.Join(sessions, ", ")
	}
	sum := sha256.Sum256([]byte(pageStyle))
	p.Policy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; img-src data:; base-uri 'none'; form-action 'none'", base64.StdEncoding.EncodeToString(sum[:]))
	b := bufio.NewWriter(w)
	if err := pageTemplate.Execute(b, &p); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return b.Flush()
}

// usageText is what a call consumed, in words.
func usageText(v any) string {
	u, ok := v.(*llm.Usage)
	if !ok {
		plain := v.(llm.Usage)
		u = &plain
	}
	text := fmt.Sprintf("in %d", u.Input)
	if u.CacheRead > 0 {
		text += fmt.Sprintf(" + %d cached", u.CacheRead)
	}
	if u.CacheWrite > 0 {
		text += fmt.Sprintf(" + %d written to the cache", u.CacheWrite)
	}
	text += fmt.Sprintf(", out %d", u.Output)
	if u.Reasoning > 0 {
		text += fmt.Sprintf(" (%d reasoning)", u.Reasoning)
	}
	return text + " tokens"
}

// sideClass is the class of a message: no word of a file becomes one.
func sideClass(role string) string {
	if role == "user" {
		return "user"
	}
	return "other"
}

// isLong reports whether text is folded.
func isLong(s string) bool { return len(s) > 2000 || strings.Count(s, "\n") > 16 }
