package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"trace/flow"
)

// A config is the user's configuration file: values for flags that the command
// line does not give.
type config struct {
	file     string // "" for none
	from     string // the variable that named it
	there    bool
	settings []setting
}

// A setting is one value of a configuration file.
type setting struct {
	key    string   // as in filters.host
	scope  string   // the command whose flag it is; everyFlows or everyCommand
	flag   string   // its name
	values []string // one but for repeatable flags
	add    bool     // to what the command line gives
	line   int
	node   node
}

// The scopes that are no command.
const (
	everyFlows   = "flows *"
	everyCommand = "*"
)

// filterFlags are the flags that "filters" may give.
var filterFlags = []string{"host", "method", "status", "kind", "llm", "from", "to", "limit", "jq"}

// unfilteredCommands act on what is named to them: default filters are not
// for them.
var unfilteredCommands = []string{"flows clear", "flows show", "flows replay", "flows save"}

// unconfigured commands work whatever the configuration file says.
var unconfigured = []string{"version", "completion", "help", "config", "ca", "man", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}

// loadConfig reads the configuration file for the commands below root. Its
// errors are usageErrors.
func loadConfig(root *cobra.Command) (*config, error) {
	c := &config{}
	var must bool
	c.file, c.from, must = configPath(os.Getenv, os.LookupEnv)
	if c.file == "" {
		return c, nil
	}
	members, err := readConfigFile(c.file, must)
	c.there = members != nil
	for _, m := range members {
		if err == nil {
			err = c.member(root, m)
		}
	}
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

func (c *config) bad(line int, format string, args ...any) error {
	return configError{c.file, line, fmt.Sprintf(format, args...)}
}

// member takes in one member of the file.
func (c *config) member(root *cobra.Command, m member) error {
	switch m.key {
	case "filters":
		return c.flags(m, "filters.", everyFlows, func(name string) *pflag.Flag {
			if !slices.Contains(filterFlags, name) {
				return nil
			}
			list, _, _ := root.Find([]string{"flows", "list"})
			return list.Flags().Lookup(name)
		})
	case "bypass":
		values, want := m.node.strings("stringArray")
		if want != "" {
			return c.bad(m.node.line, "bypass: want %s", want)
		}
		for _, g := range values {
			if _, err := filepath.Match(g, ""); err != nil || g == "" {
				return c.bad(m.node.line, "bypass: %q is no valid glob", printable(g))
			}
		}
		c.settings = append(c.settings, setting{key: m.key, scope: "run", flag: "bypass", values: values, add: true, line: m.line, node: m.node})
	case "prices":
		values, want := m.node.strings("string")
		if want != "" {
			return c.bad(m.node.line, "prices: want the name of a file")
		}
		if !filepath.IsAbs(values[0]) && values[0] != "" {
			values[0] = filepath.Join(filepath.Dir(c.file), values[0])
		}
		c.settings = append(c.settings, setting{key: m.key, scope: everyCommand, flag: "prices", values: values, line: m.line, node: m.node})
	case "flags":
		commands, ok := m.node.value.([]member)
		if !ok {
			return c.bad(m.node.line, "flags: want an object with a member for each command")
		}
		for _, k := range commands {
			cmd, rest, err := root.Find(strings.Fields(k.key))
			if err != nil || len(rest) > 0 || cmd == root || cmd.HasSubCommands() || commandName(cmd) != k.key || slices.Contains(unconfigured, topName(cmd)) {
				return c.bad(k.line, "flags: no command %q (want one such as \"run\" or \"flows list\")", printable(k.key))
			}
			cmd.InitDefaultHelpFlag()
			err = c.flags(k, "flags."+k.key+".", k.key, func(name string) *pflag.Flag {
				f := cmd.Flags().Lookup(name)
				if f == nil || f.Hidden || name == "help" {
					return nil
				}
				return f
			})
			if err != nil {
				return err
			}
		}
	default:
		return c.bad(m.line, "unknown key %q (want filters, bypass, prices or flags)", printable(m.key))
	}
	return nil
}

// flags takes in an object whose members are flags.
func (c *config) flags(m member, prefix, scope string, find func(name string) *pflag.Flag) error {
	members, ok := m.node.value.([]member)
	if !ok {
		return c.bad(m.node.line, "%s: want an object", printable(m.key))
	}
	for _, k := range members {
		f := find(k.key)
		if f == nil {
			return c.bad(k.line, "unknown key %q in %s", printable(k.key), printable(strings.TrimSuffix(prefix, ".")))
		}
		values, want := k.node.strings(f.Value.Type())
		if want != "" {
			return c.bad(k.node.line, "%s: want %s", printable(prefix+k.key), want)
		}
		c.settings = append(c.settings, setting{key: prefix + k.key, scope: scope, flag: k.key, values: values, line: k.line, node: k.node})
	}
	return nil
}

// commandName is the name of a command behind "trace".
func commandName(cmd *cobra.Command) string {
	_, name, _ := strings.Cut(cmd.CommandPath(), " ")
	return name
}

// topName is the first word of it.
func topName(cmd *cobra.Command) string {
	name, _, _ := strings.Cut(commandName(cmd), " ")
	return name
}

// settingFor returns what the file says for a flag of a command: what it says of
// this command before what it says of several.
func (c *config) settingFor(command, flag string) *setting {
	var found *setting
	for i := range c.settings {
		s := &c.settings[i]
		if s.flag != flag || s.add {
			continue
		}
		switch s.scope {
		case command:
			return s
		case everyCommand:
			found = s
		case everyFlows:
			if strings.HasPrefix(command, "flows ") && !slices.Contains(unfilteredCommands, command) {
				found = s
			}
		}
	}
	return found
}

// apply gives cmd the values of the file for the flags that its command line
// does not give.
func (c *config) apply(cmd *cobra.Command) error {
	name := commandName(cmd)
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if err != nil || f.Hidden || f.Name == "help" {
			return
		}
		given := f.Changed || f.Name == "all" && cmd.Flags().Changed("session") || f.Name == "session" && cmd.Flags().Changed("all")
		if s := c.settingFor(name, f.Name); s != nil && !given {
			err = c.set(f, s)
		}
		for i := range c.settings {
			s := &c.settings[i]
			if list, ok := f.Value.(pflag.SliceValue); ok && s.add && s.scope == name && s.flag == f.Name {
				for _, v := range s.values {
					list.Append(v)
				}
			}
		}
	})
	return err
}

func (c *config) set(f *pflag.Flag, s *setting) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.Replace(s.values)
	}
	if err := f.Value.Set(s.values[0]); err != nil {
		return usageError{c.bad(s.line, "%s: %v", printable(s.key), err)}
	}
	return nil
}

// blame adds to an error about a flag which line of the file gave its value.
func (c *config) blame(cmd *cobra.Command, err error) error {
	var usage usageError
	if c == nil || cmd == nil || !errors.As(err, &usage) {
		return err
	}
	for _, word := range strings.FieldsFunc(usage.Error(), func(r rune) bool { return r == ' ' || r == ':' || r == '=' || r == ',' }) {
		name, ok := strings.CutPrefix(word, "--")
		if f := cmd.Flags().Lookup(name); !ok || f == nil || f.Changed {
			continue
		}
		if s := c.settingFor(commandName(cmd), name); s != nil {
			return usageError{configError{c.file, s.line, fmt.Sprintf("%s: %v", printable(s.key), usage)}}
		}
	}
	return err
}

// anyGiven reports whether the command line gives one of these flags.
func anyGiven(cmd *cobra.Command, names []string) bool {
	return slices.ContainsFunc(names, cmd.Flags().Changed)
}

// configured makes the commands below root take the configuration file.
func configured(root *cobra.Command) {
	var c *config
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if slices.Contains(unconfigured, topName(cmd)) || !cmd.HasParent() {
			return nil
		}
		if c, err = loadConfig(root); err == nil {
			err = c.apply(cmd)
		}
		return err
	}
	for _, cmd := range leaves(root) {
		run := cmd.RunE
		if run == nil {
			continue
		}
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.blame(cmd, run(cmd, args)) }
	}
}

// leaves returns the commands below cmd that have none below them.
func leaves(cmd *cobra.Command) (all []*cobra.Command) {
	for _, k := range cmd.Commands() {
		if k.HasSubCommands() {
			all = append(all, leaves(k)...)
			continue
		}
		all = append(all, k)
	}
	return all
}

func newConfigCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the configuration that is in effect",
		Long: `Show which configuration file is read, what it says, and on which line.

The file is $XDG_CONFIG_HOME/trace/config.json (~/.config/trace/config.json).
TRACE_CONFIG names another; empty, none. It is a JSON object:

  {"filters": {"host": "*.example.com", "jq": ["map(select(.kind==\"http\"))"]},
   "bypass": ["*.internal.example"],
   "prices": "prices.json",
   "flags": {"run": {"link": "direct"}, "flows search": {"ignore-case": true}}}

filters are for all flows commands on several flows (not for clear), bypass is
added to --bypass of trace run, prices is the file of --prices, from the
directory of the configuration file. What the command line says goes before
what the file says.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd.Root())
			if err != nil {
				return err
			}
			return c.print(output(cmd), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// settingJSON is a setting as `trace config --json` prints it.
type settingJSON struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	From  string `json:"from"` // file, or default
	Line  *int   `json:"line"`
}

// list returns the settings, and the keys that the file leaves out.
func (c *config) list() []settingJSON {
	list := []settingJSON{}
	has := map[string]bool{}
	for _, s := range c.settings {
		top, _, _ := strings.Cut(s.key, ".")
		has[top] = true
		value := any(s.node.plain())
		if s.key == "prices" {
			value = s.values[0]
		}
		list = append(list, settingJSON{s.key, value, "file", new(s.line)})
	}
	for _, d := range []settingJSON{{"filters", map[string]any{}, "default", nil}, {"bypass", []string{}, "default", nil}, {"prices", nil, "default", nil}, {"flags", map[string]any{}, "default", nil}} {
		if !has[d.Key] {
			list = append(list, d)
		}
	}
	return list
}

// plain returns n as a value for JSON.
func (n node) plain() any {
	switch v := n.value.(type) {
	case []node:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i].plain()
		}
		return list
	case []member:
		m := map[string]any{}
		for i := range v {
			m[v[i].key] = v[i].node.plain()
		}
		return m
	}
	return n.value
}

func (c *config) print(w *terminal, asJSON bool) error {
	if asJSON {
		text, err := flow.MarshalJSON(struct {
			File     string        `json:"file"`
			NamedBy  string        `json:"named_by"`
			Exists   bool          `json:"exists"`
			Settings []settingJSON `json:"settings"`
		}{c.file, c.from, c.there, c.list()})
		if err != nil {
			return err
		}
		return writeJSON(w, text)
	}
	name := "none"
	switch {
	case c.there:
		name = c.file
	case c.file != "":
		name = c.file + " (not there)"
	}
	if _, err := fmt.Fprintf(w, "%s (by %s)\n", printable(name), c.from); err != nil {
		return err
	}
	t := table{columns: []column{{title: "KEY"}, {title: "VALUE", least: 10, wish: 20}, {title: "FROM"}}}
	for _, s := range c.list() {
		text, err := flow.MarshalJSON(s.Value)
		if err != nil {
			return err
		}
		from := s.From
		if s.Line != nil {
			from = fmt.Sprint("line ", *s.Line)
		}
		t.add(cell{text: s.Key}, cell{text: string(text)}, cell{from, faint})
	}
	return t.write(w)
}
