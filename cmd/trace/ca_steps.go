package main

import (
	"crypto/x509"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trace/anchor"
)

// caSteps are things to do to the machine: shown, agreed to, and done.
type caSteps struct {
	yes bool

	cmd    *cobra.Command
	dir    anchor.Dir
	host   *anchor.Host
	steps  []caStep
	wrong  int  // what went wrong, and was said
	undone bool // nobody agreed
}

// A caStep is what is to be done to one place.
type caStep struct {
	place    anchor.Place
	commands []anchor.Command
	before   func() error // nil: nothing
	after    func() error // tells whether it worked
}

func (s *caSteps) add(p anchor.Place, commands []anchor.Command, before, after func() error) {
	s.steps = append(s.steps, caStep{p, commands, before, after})
}

func (s *caSteps) print(format string, args ...any) {
	fmt.Fprintf(s.cmd.OutOrStdout(), format, args...)
}

func (s *caSteps) say(format string, args ...any) {
	fmt.Fprintf(s.cmd.ErrOrStderr(), "trace: "+format+"\n", args...)
}

// fail says what went wrong and lets the rest go on.
func (s *caSteps) fail(format string, args ...any) {
	s.wrong++
	s.say(format, args...)
}

// failed is the end of a command that said what went wrong.
func (s *caSteps) failed() error {
	if s.wrong > 0 {
		return exitError{Code: 1}
	}
	return nil
}

// perform shows all commands, and runs them if somebody agrees.
func (s *caSteps) perform(question string) error {
	if len(s.steps) == 0 {
		return nil
	}
	by, able := s.elevator()
	for _, step := range s.steps {
		s.print("\n# %s: %s\n", step.place.Title, step.place.Path)
		for _, c := range step.commands {
			s.print("%s\n", strings.Join(append(elevation(c, by), c.String()), " "))
		}
	}
	s.print("\n")
	if !able {
		s.fail("some of this only root may do, and there is neither sudo nor doas: run it as root")
	}
	in := s.cmd.InOrStdin()
	switch {
	case s.yes:
	case !isTerminal(in):
		s.undone = true
		s.say("nothing was done: there is nobody to ask, and no --yes")
		return nil
	case !agreed(in, s.cmd.OutOrStdout(), "Run these to "+question+"?"):
		s.undone = true
		return exitError{1, fmt.Errorf("nothing was done")}
	}
	for _, step := range s.steps {
		needs := slices.ContainsFunc(step.commands, func(c anchor.Command) bool { return c.Root })
		if needs && !able {
			continue // which was said
		}
		if err := s.do(step, by); err != nil {
			s.fail("%v", err)
		}
	}
	return nil
}

// elevator returns the program by which an ordinary user becomes root, and
// tells whether all steps can be done.
func (s *caSteps) elevator() (by string, able bool) {
	if s.host.UID == 0 {
		return "", true
	}
	for _, name := range []string{"sudo", "doas"} {
		if s.host.Tool(name) != "" {
			return name, true
		}
	}
	return "", !slices.ContainsFunc(s.steps, func(step caStep) bool {
		return slices.ContainsFunc(step.commands, func(c anchor.Command) bool { return c.Root })
	})
}

func elevation(c anchor.Command, by string) []string {
	if c.Root && by != "" {
		return []string{by}
	}
	return nil
}

func (s *caSteps) do(step caStep, by string) error {
	if step.before != nil {
		if err := step.before(); err != nil {
			return err
		}
	}
	for _, c := range step.commands {
		argv := append(elevation(c, by), c.Args...)
		tool := s.host.Tool(argv[0])
		if strings.Contains(argv[0], "/") {
			tool = argv[0]
		}
		if tool == "" {
			return fmt.Errorf("%s: there is no program %s", step.place.Path, argv[0])
		}
		run := exec.CommandContext(s.cmd.Context(), tool, argv[1:]...)
		run.Args[0] = argv[0]
		run.Env = commandEnviron()
		// What they say is no result of ours.
		run.Stdout, run.Stderr = s.cmd.ErrOrStderr(), s.cmd.ErrOrStderr()
		if in := s.cmd.InOrStdin(); isTerminal(in) {
			run.Stdin = in
		}
		if err := run.Run(); err != nil {
			return fmt.Errorf("%s: %s: %w", step.place.Path, c.String(), err)
		}
	}
	return step.after()
}

// caWanted tells which certificates are to be uninstalled.
func caWanted(current *anchor.Info, onlyOld bool) func(*x509.Certificate) bool {
	return func(c *x509.Certificate) bool {
		return !onlyOld || current == nil || !current.Certificate.Equal(c)
	}
}
