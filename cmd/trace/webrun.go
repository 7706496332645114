package main

import (
	"fmt"
	"net"
	"os"

	"trace/web"
)

// A runWeb is the page of a run, as long as that lasts. The zero value is a run
// without --web.
type runWeb struct {
	listener net.Listener
	record   *recording
	forgets  bool // the record is not kept
	page     *webPage
	log      func(format string, args ...any)
}

// checkWeb reports an address that is none of loopback.
func checkWeb(addr string) error {
	if addr == "" {
		return nil
	}
	if _, err := web.Address(addr); err != nil {
		return fmt.Errorf("--web: %w", err)
	}
	return nil
}

// listen takes the port, unless addr is "": what is wrong with it keeps the
// command from starting.
func (w *runWeb) listen(addr string) (err error) {
	if addr == "" {
		return nil
	}
	if w.listener, err = web.Listen(addr); err != nil {
		return fmt.Errorf("--web: %w", err)
	}
	return nil
}

// serve serves what is being recorded, and says where, also with --quiet: nobody
// could know the token else. resend says how requests of it are sent again.
func (w *runWeb) serve(rec *recording, prices *priceList, resend replayOptions, log func(format string, args ...any)) {
	if w.listener == nil {
		return
	}
	w.record, w.forgets, w.log = rec, rec.calls == nil, log
	if w.forgets { // its calls have summaries for the page
		rec.calls = newSummariser(rec.Store, log)
	}
	w.page = serveWeb(w.listener, &webSource{id: rec.Session().ID, open: rec.Reader, prices: prices, resend: resend}, log)
	fmt.Fprintf(os.Stderr, "trace: live page: %s\n", w.page.url)
}

// close ends the page when the command has ended, before its record does: pages
// are given a moment to take the last of it.
func (w *runWeb) close(code int) {
	if w.page == nil {
		return
	}
	w.record.Flush()
	hint := ""
	if !w.forgets {
		hint = "trace web " + w.record.Session().ID
	}
	w.page.server.Bye(code, hint, byeTime)
	if err := w.page.close(); err != nil {
		w.log("web: %v", err)
	}
	w.page = nil
}
