package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/boltqueue"
	"eventhooks/internal/boltstore"
	"eventhooks/internal/deliver"
	"eventhooks/internal/groupcommit"
	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
	"eventhooks/internal/ingest"
)

// store is what the four functions ask of a store, and what AWS does by itself.
type store interface {
	admin.Store
	ingest.Store
	deliver.Store
	healthprobe.Store
	auth.Store
	// LastEventID returns the greatest event id on record, "" for none.
	LastEventID(ctx context.Context) (string, error)
	// Expire removes what has expired.
	Expire(ctx context.Context) error
}

// queue is a queue with its consumer's side.
type queue interface {
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
	Receive(ctx context.Context, max int, visibility, wait time.Duration) ([]hook.Received, error)
	DeleteBatch(ctx context.Context, receipts []string) (failed []int, err error)
	Release(ctx context.Context, receipt string, delay time.Duration) error
}

const (
	dataFile  = "eventhooks.db"
	tokenFile = "token"
	// maxReceives is the queues' maxReceiveCount in template.yaml.
	maxReceives = 10
)

// openEmbedded opens the one file that holds the tables and the queues.
func (s *System) openEmbedded(ctx context.Context) error {
	if s.o.Dir == "" {
		dir, err := os.MkdirTemp("", "eventhooks-")
		if err != nil {
			return fmt.Errorf("make a data directory: %w", err)
		}
		s.o.Dir = dir
		s.closed = append(s.closed, func() error { return os.RemoveAll(dir) })
	} else if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	file := filepath.Join(s.o.Dir, dataFile)
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: 3 * time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return fmt.Errorf("open %s: another process is using it", file)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	s.closed = append(s.closed, db.Close)

	commits := groupcommit.New(db) // one wait for the disk for rows and messages together
	st, err := boltstore.New(db, boltstore.Options{Commits: commits})
	if err != nil {
		return err
	}
	// A predecessor that was killed cannot come back: what it had claimed is
	// free.
	if err := st.Recover(ctx, time.Now().UnixMilli()); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	s.store = embedded{st}
	for name, q := range map[string]*queue{"events": &s.events, "retry": &s.retry} {
		*q, err = boltqueue.Open(db, name, boltqueue.Options{DeadLetter: name + "-dead", MaxReceives: maxReceives, Commits: commits})
		if err != nil {
			return err
		}
	}
	return nil
}

// embedded gives a boltstore the broom that DynamoDB has by itself.
type embedded struct{ *boltstore.Store }

func (e embedded) Expire(ctx context.Context) error {
	for {
		n, err := e.Store.Expire(ctx, time.Now().UnixMilli(), expirePage)
		if err != nil || n < expirePage {
			return err
		}
	}
}

// expirePage bounds one transaction of the broom.
const expirePage = 500

// tokenValue returns the token to use: the given one, the one an earlier run
// left in the data directory, or a new one, which is left there.
func (s *System) tokenValue() (string, error) {
	if s.o.Token != "" {
		return s.o.Token, nil
	}
	if s.o.Dir == "" {
		return auth.NewValue(), nil
	}
	file := filepath.Join(s.o.Dir, tokenFile)
	b, err := os.ReadFile(file)
	if err == nil && strings.TrimSpace(string(b)) != "" {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the token of an earlier run: %w", err)
	}
	value := auth.NewValue()
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the token: %w", err)
	}
	return value, nil
}
