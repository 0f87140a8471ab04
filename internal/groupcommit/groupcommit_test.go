package groupcommit

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"

	"go.etcd.io/bbolt"
)

func TestCommitter(t *testing.T) {
	type write struct {
		name string
		err  error
	}
	// together commits the writes while another one is on its way, so that they
	// wait for the same transaction, and returns what each of them was told and
	// how many transactions it took.
	together := func(t *testing.T, writes ...write) (errs []error, commits int, db *bbolt.DB) {
		t.Helper()
		db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		c := New(db)
		errs = make([]error, len(writes))
		ended := make(chan struct{}, len(writes))
		c.lead <- struct{}{}
		for i, w := range writes {
			go func() {
				errs[i] = c.Commit(func(tx *bbolt.Tx) error {
					if _, err := tx.CreateBucket([]byte(w.name)); err != nil {
						return err
					}
					return w.err
				})
				ended <- struct{}{}
			}()
		}
		synctest.Wait()
		before := lastTx(t, db)
		<-c.lead
		for range writes {
			<-ended
		}
		return errs, lastTx(t, db) - before, db
	}
	has := func(t *testing.T, db *bbolt.DB, name string, want bool) {
		t.Helper()
		err := db.View(func(tx *bbolt.Tx) error {
			if got := tx.Bucket([]byte(name)) != nil; got != want {
				t.Errorf("%s is there: %t; want %t", name, got, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}

	in("writes that wait share one commit", func(t *testing.T) {
		errs, commits, db := together(t, write{"a", nil}, write{"b", nil}, write{"c", nil})
		if err := errors.Join(errs...); err != nil || commits != 1 {
			t.Errorf("%d commits, %v; want 1, nil", commits, err)
		}
		has(t, db, "a", true)
		has(t, db, "c", true)
	})

	in("a write that fails takes no other with it, and leaves nothing", func(t *testing.T) {
		bad := errors.New("bad")
		errs, _, db := together(t, write{"a", nil}, write{"b", bad}, write{"c", nil})
		if errs[0] != nil || !errors.Is(errs[1], bad) || errs[2] != nil {
			t.Errorf("errors %v; want only the second to fail", errs)
		}
		has(t, db, "a", true)
		has(t, db, "b", false)
		has(t, db, "c", true)
	})

	in("a closed file is an error for all", func(t *testing.T) {
		db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := New(db)
		db.Close()
		if err := c.Commit(func(*bbolt.Tx) error { return nil }); err == nil {
			t.Error("Commit() = nil; want an error")
		}
	})
}

// lastTx returns the number of the last transaction that was committed.
func lastTx(t *testing.T, db *bbolt.DB) (id int) {
	t.Helper()
	if err := db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}
