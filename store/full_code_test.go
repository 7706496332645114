package store

import (
	"errors"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"
)

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
