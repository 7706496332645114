package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"trace/control"
	"trace/peers"
)

func newWGCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "wg", Short: "List and revoke the WireGuard peers of 'trace serve'",
		Args: checked(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newWGPeersCommand(), newWGRemoveCommand())
	return cmd
}

func newWGPeersCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "peers [--json]",
		Short: "List the peers, and what the serve that runs knows of them",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := listPeers(cmd.Context())
			if err != nil {
				return exitError{Code: 1, Err: err}
			}
			return printPeers(cmd.OutOrStdout(), list, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func newWGRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Shut a peer out, for good and at once",
		Args:  checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := removePeer(cmd.Context(), args[0]); err != nil {
				return exitError{Code: 1, Err: err}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", args[0])
			return err
		},
	}
}

// removePeer takes a peer out of the list, and has the serve that runs cut it
// off.
func removePeer(ctx context.Context, name string) error {
	book, err := peerBook()
	if err != nil {
		return err
	}
	if _, err := book.Remove(name); err != nil {
		if errors.Is(err, peers.ErrUnknown) {
			return fmt.Errorf("%w: 'trace wg peers' lists those that there are", err)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	serve, err := control.Dial(ctx, "")
	if errors.Is(err, control.ErrNoServe) {
		return nil
	}
	if err == nil {
		defer serve.Close()
		err = tellServe(ctx, serve)
	}
	if err != nil {
		return fmt.Errorf("peer %q is removed, but the serve that runs was not told and may still let it in: %w", name, err)
	}
	return nil
}

// peerJSON is one element of `wg peers --json`.
type peerJSON struct {
	Name      string       `json:"name"`
	Key       string       `json:"key"`
	Addresses []string     `json:"addresses"`
	Created   control.Time `json:"created"`
	Endpoint  *string      `json:"endpoint"` // null: not known
	Handshake control.Time `json:"latest_handshake"`
	RX        *int64       `json:"rx"`
	TX        *int64       `json:"tx"`
	Session   *string      `json:"session"`
}

// listPeers joins what is on disk with what the serve that runs knows.
func listPeers(ctx context.Context) ([]peerJSON, error) {
	book, err := peerBook()
	if err != nil {
		return nil, err
	}
	list, err := book.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return []peerJSON{}, nil
	}
	if err != nil {
		return nil, err
	}
	live, err := livePeers(ctx)
	if err != nil {
		return nil, err
	}
	all := []peerJSON{}
	for _, p := range list.Peers {
		one := peerJSON{Name: p.Name, Key: p.PublicKey.String(), Addresses: []string{p.Addr4.String(), p.Addr6.String()}, Created: control.Time{Time: p.Created}}
		if l, ok := live[one.Key]; ok {
			one.RX, one.TX = &l.RX, &l.TX
			one.Handshake = l.LatestHandshake
			if l.Endpoint != "" {
				one.Endpoint = &l.Endpoint
			}
			if l.Session != "" {
				one.Session = &l.Session
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// livePeers returns what the serve that runs knows of its peers, by key.
func livePeers(ctx context.Context) (map[string]control.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	c, err := control.Dial(ctx, "")
	if errors.Is(err, control.ErrNoServe) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	live := map[string]control.Peer{}
	for _, p := range s.Peers {
		live[p.Key] = p
	}
	return live, nil
}

func printPeers(w io.Writer, list []peerJSON, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		return enc.Encode(list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no peers yet: trace namespace wireguard-config --peer NAME makes one")
		return err
	}
	t := &table{columns: []column{{title: "NAME"}, {title: "ADDRESS"}, {title: "ADDRESS6", drop: 1}, {title: "ENDPOINT"},
		{title: "HANDSHAKE"}, {title: "RECEIVED", right: true}, {title: "SENT", right: true}, {title: "SESSION", drop: 2}}}
	for _, p := range list {
		row := []cell{{text: p.Name, style: bold}, {text: p.Addresses[0]}, {text: p.Addresses[1]}, {text: deref(p.Endpoint)}, {text: ago(p.Handshake)}, {}, {}, {text: deref(p.Session)}}
		if p.RX != nil {
			row[5].text, row[6].text = sizeText(*p.RX), sizeText(*p.TX)
		}
		t.add(row...)
	}
	return t.write(newTerminal(w, os.Getenv))
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// ago says how long ago a handshake was.
func ago(t control.Time) string {
	if t.IsZero() {
		return ""
	}
	return time.Since(t.Time).Round(time.Second).String() + " ago"
}
