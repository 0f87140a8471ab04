package boltstore_test

import (
	"path/filepath"
	"testing"

	"eventhooks/internal/boltstore"
	"eventhooks/internal/storetest"
)

// open opens a store in a file of its own, closed at the end of the test.
func open(t testing.TB, o boltstore.Options) *boltstore.Store {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "store.db"), o)
}

func openFile(t testing.TB, path string, o boltstore.Options) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	for _, c := range []struct {
		name string
		o    boltstore.Options
	}{
		{"as in local mode", boltstore.Options{}},
		{"strict", boltstore.Options{Strict: true, NoSync: true}},
		{"strict with short pages", boltstore.Options{Strict: true, PageBytes: 700, NoSync: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, c.o) })
		})
	}
}
