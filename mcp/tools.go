package mcp

// tools offers what can be asked.
func (s *Server) tools() {
	add(s, question{name: "list_sessions", title: "List sessions",
		text: "List what was recorded, newest first: a session for each run or client, with its id, name, state and number of flows."}, s.listSessions)
	add(s, question{name: "list_flows", title: "List flows",
		text: "List the flows of a session (HTTP exchanges, WebSockets, DNS queries, connections), newest first, a short row each, with counts by host and kind. " +
			"Filters choose among them; next_cursor goes on. show_flow has the details."}, s.listFlows)
	add(s, question{name: "show_flow", title: "Show a flow",
		text: "Show one flow: URL, headers, timings, what went wrong, and the shape of its bodies. With body=request or response it shows a part of that body: " +
			"what a path leads to (messages[0].content) or a range of bytes (offset, length), so that a large body is read bit by bit."}, s.showFlow)
	add(s, question{name: "flow_events", title: "Events of a flow",
		text: "List the events of a stream (server-sent events and the like) or the messages of a WebSocket or connection, in order, with their times."}, s.flowEvents)
	if s.Views.Call != nil {
		add(s, question{name: "conversation", title: "Read a call to a language model",
			text: "Read a call to a language model as a chat: what is new in this turn, tool calls and results, the answer put together from its stream, tokens, and what became of the prompt cache. " +
				"Without a flow it lists the conversations of a session."}, s.conversation)
	}
	if s.Views.Diff != nil {
		add(s, question{name: "diff", title: "Compare two requests",
			text: "Say what changed between two requests: of calls to language models in system prompt, tools and messages, and why the prompt cache was missed; of others in heads and bodies."}, s.diff)
	}
	if s.Views.Search != nil {
		add(s, question{name: "search", title: "Search",
			text: "Find text in what was recorded: URLs, headers, bodies, events, messages and answers, in the newest flows first, with the text around each hit."}, s.search)
	}
	if s.Views.Stats != nil {
		add(s, question{name: "stats", title: "Count",
			text: "Count a session: flows, bytes, errors, durations, tokens; by model, host, process and agent; what the contexts consisted of."}, s.stats)
	}
	if s.Views.Doctor != nil {
		add(s, question{name: "doctor", title: "Check this machine", time: longTime,
			text: "Find out whether this machine can record transparently, and what would mend what is missing. It tries it with a probe, which takes a second or more."}, s.doctor)
	}
	if s.Views.Replay != nil {
		add(s, question{name: "replay", title: "Send a request again", writes: true, time: longTime,
			text: "Send a recorded request again to its server, changed if wanted, and record the answer. It acts on the real server. Secrets that were redacted come from the environment of trace."}, s.replay)
	}
}
