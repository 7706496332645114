package store

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"trace/flow"

	sqlite3 "modernc.org/sqlite/lib"
)

// finished makes a small session that has ended.
func finished(t *testing.T) string {
	t.Helper()
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	for i := range 30 {
		c.request("GET", fmt.Sprint("/", i), "application/octet-stream", noise(i, 3000))
		c.response(200+i, "text/plain", false)
		c.end(nil)
	}
	c.close(nil)
	finish(t, s)
	return path
}

func TestBadFiles(t *testing.T) {
	good, err := os.ReadFile(finished(t))
	if err != nil {
		t.Fatal(err)
	}
	pragma := func(sql string) func(string) {
		return func(path string) {
			d, err := dial(path, url.Values{"mode": {"rw"}})
			if err == nil {
				err = d.script(sql)
				d.close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		data []byte
		then func(path string)
		want string
	}{
		{"empty", nil, nil, "is empty"},
		{"text", []byte(strings.Repeat("just some text\n", 1000)), nil, "is no session of trace"},
		{"half", good[:len(good)/2], nil, "truncated"},
		{"page and a half", good[:6000], nil, "truncated"},
		{"a few bytes", good[:50], nil, "is no session"},
		{"newer", good, pragma("PRAGMA user_version=99"), "newer trace (format 99, this one reads up to 3)"},
		{"other database", good, pragma("PRAGMA application_id=7"), "is a database, but no session"},
		{"no row", good, pragma("DELETE FROM session"), "is empty"},
		{"no table", good, pragma("DROP TABLE session"), "no such table"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.then != nil {
				c.then(path)
			}
			r, err := Open(path)
			if err == nil {
				r.Close()
				t.Fatal("it opens")
			}
			var fe *FileError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestMissingAndForbidden(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none.db")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing: %v", err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("directory: %v", err)
	}
	path := finished(t)
	if _, err := Create(path, testSession(), Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a file: %v", err)
	}
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(filepath.Join(dir, "target.db"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(link, testSession(), Options{}); err == nil {
		t.Error("Create followed a symbolic link")
	}
	if _, err := Create(filepath.Join(dir, "no", "x.db"), testSession(), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in no directory: %v", err)
	}
}

// TestDamagedInside cuts bytes out of the middle: reading must fail or
// succeed, never panic, and never hand out wrong bytes.
func TestDamagedInside(t *testing.T) {
	good, err := os.ReadFile(finished(t))
	if err != nil {
		t.Fatal(err)
	}
	step := 2999
	if testing.Short() {
		step *= 8
	}
	for at := 4096; at < len(good); at += step {
		bad := append([]byte(nil), good...)
		for i := at; i < min(at+40, len(bad)); i++ {
			bad[i] ^= 0x55
		}
		path := filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			continue
		}
		if xs, err := r.Flows(Query{Heads: true}); err == nil {
			for _, x := range xs {
				b, err := r.Body(x.ID, flow.Client)
				n := 0
				if x.Request != nil && x.Request.Head != nil && err == nil {
					if _, e := fmt.Sscanf(x.Request.Head.Path, "/%d", &n); e == nil && len(b) == 3000 && string(b) != string(noise(n, 3000)) {
						t.Errorf("damage at %d: flow %d has a wrong body", at, x.ID)
					}
				}
				r.Detail(x.ID)
			}
		}
		r.Close()
	}
}

// TestDamagedConnection: what is said of a connection cannot be read, and its
// flows are told all the same.
func TestDamagedConnection(t *testing.T) {
	path := finished(t)
	d, err := dial(path, url.Values{"mode": {"rw"}})
	if err == nil {
		_, err = d.exec(`UPDATE conn SET facts='{"ID"T1'`)
		d.close()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, path)
	for _, q := range []Query{{}, {Heads: true}, {Limit: 3}} {
		xs, err := r.Flows(q)
		picked, e := r.Pick(q, func(*flow.Exchange) bool { return true })
		if err != nil || e != nil || len(xs) == 0 || len(picked) != len(xs) {
			t.Fatalf("%d and %d flows, %v, %v", len(xs), len(picked), err, e)
		}
		for _, x := range slices.Concat(xs, picked) {
			if x == nil || x.Request == nil || x.Conn.ID != 1 || x.Error == nil || !strings.Contains(x.Error.Message, "damaged") {
				t.Errorf("%+v", x)
			}
		}
	}
	if _, err := r.Flow(1); err == nil || !strings.Contains(err.Error(), "connection 1 is damaged") {
		t.Errorf("one flow: %v", err)
	}
}

// TestCode: a full database says so through all that wraps it.
func TestCode(t *testing.T) {
	d, err := dial(t.TempDir()+"/x.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	err = d.script("PRAGMA max_page_count=2; CREATE TABLE a(b); CREATE TABLE c(d); CREATE TABLE e(f)")
	var coded interface{ Code() int }
	if err = fileError("x.db", err); !errors.As(err, &coded) || coded.Code()&0xff != sqlite3.SQLITE_FULL {
		t.Errorf("%v", err)
	}
}
