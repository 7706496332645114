package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"trace/console"
)

// newTopCommand makes `trace top`.
func newTopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "top [SESSION]",
		Short: "Watch flows, processes and tokens live in the terminal",
		Long: `Watch what is being recorded on the whole screen of the terminal: flows as they
happen, and what they come to by process, host, model and session.

Without SESSION (an ID, NAME or FILE) it follows every run, and every client of a
trace serve, that is being recorded or begins meanwhile; where there is none, it
shows the newest session until one begins.

Keys: arrows or j and k choose a row, Enter shows it in detail, Tab goes to the
next pane, / filters (words that a flow must have; !word that it must not), Esc
goes back, ? lists all keys, q quits. NO_COLOR turns colours off.`,
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref := ""
			if len(args) > 0 {
				if ref = args[0]; ref == "" {
					return usageError{errors.New("which session? \"\" is none")}
				}
			}
			return top(ref)
		},
	}
}

// A noScreenError says that there is no terminal to show anything on.
type noScreenError struct{ why string }

func (e noScreenError) Error() string { return "top: " + e.why }

// Hint names what needs no screen.
func (noScreenError) Hint() string {
	return "without a screen: trace flows tail, trace flows list, trace status"
}

// top shows the session that ref means, or all.
func top(ref string) error {
	if term := os.Getenv("TERM"); term == "dumb" {
		return exitError{1, noScreenError{"the terminal (TERM=dumb) cannot show a full screen"}}
	}
	source, err := newTopSource(ref)
	if err != nil {
		return err
	}
	defer source.close()
	s, err := console.Open(os.Stdout)
	if errors.Is(err, console.ErrNoTerminal) {
		return exitError{1, noScreenError{"standard output is no terminal"}}
	}
	if err != nil {
		return exitError{1, fmt.Errorf("top: %w", err)}
	}
	defer s.Close()
	return watch(s, newTopView(source, newTerminal(os.Stdout, os.Getenv).color))
}

// topClock is how often what is a matter of time is shown anew: ages and rates.
const topClock = time.Second

// watch draws and takes keys until it is asked to end.
func watch(s *console.Screen, v *topView) error {
	v.resize(s.Size())
	wait := time.NewTimer(0)
	defer wait.Stop()
	var drawn time.Time // zero: anew at once
	gen := -1
	for {
		select {
		case e := <-s.Events():
			switch {
			case e.Signal != nil:
				sig, _ := e.Signal.(syscall.Signal)
				return exitError{Code: 128 + int(sig)}
			case e.Gone:
				return exitError{Code: 128 + int(syscall.SIGHUP)}
			case e.Key == console.CtrlZ:
				s.Suspend()
			case e.Key == console.CtrlL:
				s.Clear()
			case e.Key != 0:
				if v.press(e.Key) {
					return nil
				}
			}
			drawn = time.Time{}
		case <-wait.C:
			more, err := v.source.step(time.Now())
			v.problem = ""
			if err != nil {
				v.problem = err.Error()
			}
			pause := topEvery
			if more {
				pause = 0
			}
			wait.Reset(pause)
		}
		if now := time.Now(); now.Sub(drawn) >= topClock || gen != v.source.gen && now.Sub(drawn) >= topEvery/2 {
			if w, h := s.Size(); w != v.width || h != v.height {
				v.resize(w, h)
			}
			s.Draw(v.lines(now))
			drawn, gen = now, v.source.gen
		}
	}
}
