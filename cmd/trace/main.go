// Trace runs a command and shows what it really sends, and to whom.
//
//	trace run --inspect -- claude
//	trace flows list
//
// The command runs in namespaces of its own; its TCP connections end in this
// process, are decrypted with an authority made for the run, relayed byte for
// byte to the real servers, and recorded. docs/cli.md describes every command
// and flag, docs/architecture.md how it is built.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	startRole()
	os.Exit(speak(newRootCommand().Execute()))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "trace",
		Short:         "See what a program really sends, and to whom",
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          rootArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate(thisBuild().text())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see '%s --help')", err, cmd.CommandPath())}
	})
	root.AddCommand(
		newRunCommand(),
		newExecCommand(),
		newServeCommand(),
		newServeStatusCommand(),
		newTopCommand(),
		newAttachCommand(),
		newFlowsCommand(),
		newSessionsCommand(),
		newWebCommand(),
		newMCPCommand(),
		newImportCommand(),
		newMarkCommand(),
		newConfigCommand(),
		newNamespaceCommand(),
		newWGCommand(),
		newCACommand(),
		newVersionCommand(),
		newManCommand(),
	)
	configured(root)
	return root
}

// rootArgs turns an unknown command into a usage error.
func rootArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q (see 'trace --help')", args[0])}
	}
	return nil
}

// speak prints err for people and returns the exit code that stands for it.
func speak(err error) int {
	if err == nil {
		return 0
	}
	var exit exitError
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "trace: %v\n", err)
		return 2
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintf(os.Stderr, "trace: %v\n", exit.Err)
			sayHints(exit.Err)
		}
		return exit.Code
	}
	fmt.Fprintf(os.Stderr, "trace: %v\n", err)
	sayHints(err)
	return 1
}

// sayHints prints what a person can do about err.
func sayHints(err error) {
	for hint := range strings.Lines(hintFor(err)) {
		fmt.Fprintf(os.Stderr, "trace: hint: %s\n", strings.TrimSuffix(hint, "\n"))
	}
}
