package export

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// harSchema is HAR 1.2 in the words of this test: of each object what must be
// there, by type, and behind a "?" what may be. "int" has no fraction.
var harSchema = map[string]map[string]string{
	"log":      {"version": "string", "creator": "object:creator", "entries": "list:entry", "pages": "list:", "comment": "?string"},
	"creator":  {"name": "string", "version": "string"},
	"entry":    {"startedDateTime": "time", "time": "number", "request": "object:request", "response": "object:response", "cache": "object:", "timings": "object:timings", "serverIPAddress": "?string", "connection": "?string"},
	"request":  {"method": "string", "url": "url", "httpVersion": "string", "cookies": "list:cookie", "headers": "list:pair", "queryString": "list:pair", "headersSize": "int", "bodySize": "int", "postData": "?object:post"},
	"post":     {"mimeType": "string", "text": "string"}, // text: importers want it
	"response": {"status": "int", "statusText": "string", "httpVersion": "string", "cookies": "list:cookie", "headers": "list:pair", "content": "object:content", "redirectURL": "string", "headersSize": "int", "bodySize": "int"},
	"content":  {"size": "int", "mimeType": "string", "compression": "?int", "text": "?string", "encoding": "?string"},
	"timings":  {"send": "duration", "wait": "duration", "receive": "duration", "blocked": "number", "dns": "number", "connect": "number", "ssl": "number"},
	"pair":     {"name": "string", "value": "string"},
	"cookie":   {"name": "string", "value": "string", "path": "?string", "domain": "?string", "expires": "?time", "httpOnly": "?bool", "secure": "?bool"},
}

// conform returns what v, an object of that name, lacks.
func conform(path, name string, v any) (faults []string) {
	m, ok := v.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s is %T, no object", path, v)}
	}
	for key, want := range harSchema[name] {
		optional := strings.HasPrefix(want, "?")
		got, there := m[key]
		if !there && optional {
			continue
		}
		kind, of, _ := strings.Cut(strings.TrimPrefix(want, "?"), ":")
		ok := there
		switch kind {
		case "string":
			_, ok = got.(string)
		case "bool":
			_, ok = got.(bool)
		case "int", "number", "duration":
			n, isNumber := got.(float64)
			ok = isNumber && (kind != "int" || n == math.Trunc(n)) && (kind != "duration" || n >= 0)
		case "time":
			s, _ := got.(string)
			_, err := time.Parse("2006-01-02T15:04:05.000Z07:00", s)
			ok = err == nil
		case "url":
			s, _ := got.(string)
			u, err := url.Parse(s)
			ok = err == nil && u.Scheme != "" && u.Host != "" && u.Fragment == ""
		case "object":
			faults = append(faults, conform(path+"."+key, of, got)...)
		case "list":
			list, isList := got.([]any)
			ok = isList
			for i, e := range list {
				faults = append(faults, conform(fmt.Sprintf("%s.%s[%d]", path, key, i), of, e)...)
			}
		}
		if !ok {
			faults = append(faults, fmt.Sprintf("%s.%s is %v, want %s", path, key, got, want))
		}
	}
	for key := range m { // what is not of the format says so
		if _, known := harSchema[name][key]; !known && harSchema[name] != nil && !strings.HasPrefix(key, "_") && key != "comment" && key != "sameSite" {
			faults = append(faults, path+"."+key+" is not of HAR 1.2")
		}
	}
	return faults
}

// chrome returns what would keep Chrome DevTools from importing an entry as it
// is meant.
func chrome(e map[string]any) (faults []string) {
	if v, there := e["_initiator"]; there && v == nil {
		faults = append(faults, "_initiator is null")
	}
	request := e["request"].(map[string]any)
	switch v := request["httpVersion"]; v {
	case "http/1.0", "http/1.1", "http/2.0", "h3":
	default:
		faults = append(faults, fmt.Sprintf("httpVersion %v", v))
	}
	for _, h := range request["headers"].([]any) {
		if strings.HasPrefix(h.(map[string]any)["name"].(string), ":") {
			faults = append(faults, "pseudo header field")
		}
	}
	for list, keys := range map[string][]string{"_webSocketMessages": {"type", "time", "opcode", "data"}, "_eventSourceMessages": {"time", "eventName", "eventId", "data"}} {
		messages, _ := e[list].([]any)
		for i, m := range messages {
			for _, key := range keys {
				if _, there := m.(map[string]any)[key]; !there {
					faults = append(faults, fmt.Sprintf("%s[%d] has no %s", list, i, key))
				}
			}
			if at := m.(map[string]any)["time"].(float64); at > 1e11 {
				faults = append(faults, fmt.Sprintf("%s[%d].time %v is not in seconds", list, i, at))
			}
		}
	}
	sum, tm := 0.0, e["timings"].(map[string]any)
	for _, phase := range []string{"blocked", "dns", "connect", "send", "wait", "receive"} {
		sum += max(0, tm[phase].(float64))
	}
	if math.Abs(sum-e["time"].(float64)) > 0.001 {
		faults = append(faults, fmt.Sprintf("time %v, the phases are %v", e["time"], sum))
	}
	return faults
}

// checkHAR holds a HAR against the schema and the rules of importers, and
// returns its entries.
func checkHAR(t *testing.T, text []byte) []map[string]any {
	t.Helper()
	var file map[string]any
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	faults := conform("log", "log", file["log"])
	var entries []map[string]any
	for i, e := range file["log"].(map[string]any)["entries"].([]any) {
		entries = append(entries, e.(map[string]any))
		for _, f := range chrome(entries[i]) {
			faults = append(faults, fmt.Sprintf("entry %d: %s", i, f))
		}
	}
	for _, f := range faults {
		t.Error(f)
	}
	return entries
}

// importHAR hands a HAR to har-validator, by which many tools begin to import
// one.
func importHAR(t *testing.T, text []byte) {
	t.Helper()
	const script = `const har = JSON.parse(require("fs").readFileSync(0, "utf8"))
require("har-validator").har(har).then(() => console.log("valid", har.log.entries.length), e => { console.log(JSON.stringify(e.errors)); process.exit(1) })`
	c := exec.Command("node", "-e", script)
	c.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs")
	c.Stdin = strings.NewReader(string(text))
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), "Cannot find module") || c.ProcessState == nil {
		missing(t, "node or its har-validator is not installed: "+string(out))
	}
	if err != nil || !strings.HasPrefix(string(out), "valid ") {
		t.Errorf("har-validator: %v: %s", err, out)
	}
}
