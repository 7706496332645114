package main

import "github.com/spf13/cobra"

// An exitError ends the program with Code. Err is what main prints; nil
// prints nothing.
type exitError struct {
	Code int
	Err  error
}

// Error returns the text of Err.
func (e exitError) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e exitError) Unwrap() error { return e.Err }

// A usageError says that the command line itself is wrong: exit 2.
type usageError struct{ Err error }

// Error returns the text of Err.
func (e usageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e usageError) Unwrap() error { return e.Err }

// checked makes usageErrors of what an argument check says.
func checked(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
