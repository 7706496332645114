package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManCommand makes the command that packages get their manual pages from.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages to a directory",
		Long: `Write a manual page for each command to DIR (trace.1, trace-run.1, …), which
is made if it is not there. Packages have them installed; elsewhere:

  trace man ~/.local/share/man/man1
  man trace-run`,
		Args: checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writeManual(args[0], cmd.Root(), thisBuild())
		},
	}
}

// writeManual writes the pages of cmd and of the commands below it.
func writeManual(dir string, cmd *cobra.Command, b build) error {
	if err := os.WriteFile(filepath.Join(dir, pageName(cmd)+".1"), manualPage(cmd, b), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if !inManual(sub) {
			continue
		}
		if err := writeManual(dir, sub, b); err != nil {
			return err
		}
	}
	return nil
}

// inManual leaves out what is not for people, and cobra's help command.
func inManual(cmd *cobra.Command) bool { return !cmd.Hidden && cmd.Name() != "help" }

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// A page is a manual page that is being written, in the man macros of groff and
// mandoc (man(7)).
type page struct{ bytes.Buffer }

func manualPage(cmd *cobra.Command, b build) []byte {
	p := &page{}
	day, _, _ := strings.Cut(b.Date, "T")
	fmt.Fprintf(p, ".TH \"%s\" 1 \"%s\" \"trace %s\" \"Trace Manual\"\n", roff(strings.ToUpper(pageName(cmd))), day, roff(b.Version))
	p.section("NAME")
	fmt.Fprintf(p, "%s \\- %s\n", roff(pageName(cmd)), roff(lowerFirst(cmd.Short)))
	p.section("SYNOPSIS")
	line := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		line = cmd.CommandPath() + " COMMAND [ARG...]"
	}
	fmt.Fprintf(p, ".B %s\n", roff(line))
	p.section("DESCRIPTION")
	if cmd.Parent() == nil {
		p.prose(rootDescription)
	} else {
		p.prose(cmp.Or(cmd.Long, cmd.Short+"."))
	}
	p.commands(cmd)
	p.options("OPTIONS", cmd.NonInheritedFlags())
	p.options("INHERITED OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.WriteString("Typed into a shell:\n")
		p.literal(strings.Split(strings.Trim(cmd.Example, "\n"), "\n"))
	}
	if cmd.Parent() == nil {
		p.rootSections()
	}
	p.seeAlso(cmd)
	return p.Bytes()
}

const rootDescription = `trace runs a command and shows what it really sends, and to whom. The command runs
in namespaces of its own; its TCP connections are decrypted with an authority made
for the run, relayed byte for byte to the real servers, and recorded. Other ways are
a proxy, base URLs of language models' APIs, and a server for many clients.

  trace namespace doctor
  trace run --inspect -- claude
  trace flows list
  trace flows show last

The complete reference, with the JSON that scripts may rely on, is cli.md among the
documents that come with trace.`

func (p *page) rootSections() {
	p.section("EXIT STATUS")
	for _, row := range [][2]string{
		{"0", "It worked. Commands that run another one (run, exec) exit with that one's status."},
		{"1", "It did not work; standard error says what and, where there is one, the way out."},
		{"2", "The command line or the configuration file is wrong."},
		{"125", "run, exec: trace itself failed; the command was not started."},
		{"126, 127", "run, exec: the command cannot be executed, or was not found."},
	} {
		p.item(roff(row[0]), row[1])
	}
	p.section("FILES")
	p.item("\\fI$XDG_STATE_HOME\\fR/trace/", "Recorded sessions, and the lasting authority of trace ca (~/.local/state/trace where the variable is not set).")
	p.item("\\fI$XDG_CONFIG_HOME\\fR/trace/", "The configuration file, config.json (~/.config/trace where it is not set).")
}

func (p *page) section(name string) { fmt.Fprintf(p, ".SH %s\n", name) }

// prose writes paragraphs. Lines that are indented stay lines: commands, lists.
func (p *page) prose(s string) {
	var fixed []string
	flush := func() {
		if len(fixed) > 0 {
			p.literal(fixed)
			fixed = nil
		}
	}
	gap := false
	for line := range strings.Lines(strings.Trim(s, "\n")) {
		line = strings.TrimRight(line, " \n")
		switch {
		case line == "":
			gap = true
			continue
		case strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t"):
			fixed = append(fixed, line)
		default:
			flush()
			if gap {
				p.WriteString(".PP\n")
			}
			p.WriteString(roffLine(line))
		}
		gap = false
	}
	flush()
}

// literal writes lines as they are, indented together.
func (p *page) literal(lines []string) {
	p.WriteString(".sp\n.RS 4\n.nf\n")
	for _, line := range lines {
		p.WriteString(roffLine(strings.TrimPrefix(line, "  ")))
	}
	p.WriteString(".fi\n.RE\n")
}

// item writes a term, which is roff already, and what it means.
func (p *page) item(term, text string) {
	fmt.Fprintf(p, ".TP\n%s\n%s", term, roffLine(text))
}

func (p *page) commands(cmd *cobra.Command) {
	first := true
	for _, sub := range cmd.Commands() {
		if !inManual(sub) {
			continue
		}
		if first {
			p.section("COMMANDS")
			first = false
		}
		p.item(fmt.Sprintf("\\fB%s\\fR(1)", roff(pageName(sub))), sub.Short+".")
	}
}

func (p *page) options(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		name = typePlaceholder(name)
		term := "\\fB\\-\\-" + roff(f.Name) + "\\fR"
		if f.Shorthand != "" {
			term = "\\fB\\-" + roff(f.Shorthand) + "\\fR, " + term
		}
		switch {
		case f.NoOptDefVal != "" && f.Value.Type() != "bool":
			term += "[=\\fI" + roff(name) + "\\fR]"
		case name != "":
			term += " \\fI" + roff(name) + "\\fR"
		}
		p.item(term, usage+shownDefault(f))
	})
}

// typePlaceholder makes a placeholder of what pflag calls an argument that has none.
func typePlaceholder(name string) string {
	switch name {
	case "string", "int", "strings", "duration", "float":
		return strings.ToUpper(name)
	}
	return name
}

// shownDefault is what a flag is when it is not given, unless that is nothing.
func shownDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
		return ""
	}
	if strings.Contains(f.Usage, "(default") {
		return ""
	}
	return " (default " + f.DefValue + ")"
}

func (p *page) seeAlso(cmd *cobra.Command) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, pageName(cmd.Parent()))
		for _, sibling := range cmd.Parent().Commands() {
			if sibling != cmd && inManual(sibling) && cmd.Parent().HasParent() {
				pages = append(pages, pageName(sibling))
			}
		}
	}
	if len(pages) == 0 {
		return
	}
	p.section("SEE ALSO")
	for i, name := range pages {
		comma := ","
		if i == len(pages)-1 {
			comma = ""
		}
		fmt.Fprintf(p, ".BR %s (1)%s\n", roff(name), comma)
	}
}

// roffLine is a line of text: one that begins as a request does is not one.
func roffLine(s string) string {
	s = roff(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s + "\n"
}

// roff escapes what is not text to roff: its escape character, the hyphen that
// would be typeset as one and so not be found or pasted, and quotes, which end an
// argument of a macro.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`, "\n", " ", "\t", "    ").Replace(s)
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
