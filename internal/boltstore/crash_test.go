package boltstore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"eventhooks/internal/boltstore"
	"eventhooks/internal/hook"
)

// crashFile is the environment variable that makes the test binary the child of
// TestStore_crash: it names the file to write to.
const crashFile = "BOLTSTORE_TEST_CRASH_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashFile); path != "" {
		writeUntilKilled(path)
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes rows and records and prints the name of each when its
// write has been acknowledged, until somebody kills it.
func writeUntilKilled(path string) {
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	ctx := context.Background()
	last, err := s.LastEventID(ctx)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var first int
	if last != "" {
		fmt.Sscanf(last[9:13], "%x", &first)
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for n := first + 1 + w; ; n += 6 {
				name := fmt.Sprintf("h%d %d", w, n)
				d := row(fmt.Sprint("h", w), n)
				created, err := s.CreateDelivery(ctx, d, now)
				if err == nil && created {
					_, err = s.ClaimDelivery(ctx, hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, now+90_000, now)
				}
				if err == nil {
					_, err = s.Write(ctx, hook.FeedHooks, []hook.Change{{Record: hook.Record{Kind: hook.KindHook, ID: name, Data: []byte(name)}}}, nil, now)
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				// One call is one write to the pipe: lines do not mix.
				fmt.Printf("wrote %s\n", name)
			}
		})
	}
	wg.Wait()
}

// What was acknowledged is there after the process was killed, the file is
// whole, and what the dead one had claimed is free.
func TestStore_crash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	acknowledged := map[string]bool{}
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashFile+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines, n := bufio.NewScanner(out), 0
		for lines.Scan() {
			name, ok := strings.CutPrefix(lines.Text(), "wrote ")
			if !ok {
				t.Errorf("the child says: %s", lines.Text())
			}
			acknowledged[name] = true
			// In the midst of whatever the other writers are doing.
			if n++; n == 60+17*round {
				must(t, cmd.Process.Kill())
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself; want it killed")
		}

		s := openFile(t, path, boltstore.Options{})
		must(t, s.Recover(t.Context(), now))
		for name := range acknowledged {
			if _, err := s.Get(t.Context(), hook.KindHook, name, now); err != nil {
				t.Errorf("record %s: %v", name, err)
			}
			var n int
			hookID, _, _ := strings.Cut(name, " ")
			fmt.Sscanf(name, hookID+" %d", &n)
			d, err := s.Delivery(t.Context(), hook.DeliveryKey{HookID: hookID, EventID: eventID(n)}, now)
			if err != nil || d.Tries != row(hookID, n).Tries+1 || d.LeaseMS != 0 || d.WakeMS != now {
				t.Errorf("row %s = %+v, %v; want it claimed once and free", name, d, err)
			}
		}
		closeFile(t, s)
	}
	if len(acknowledged) < 200 {
		t.Errorf("%d writes were acknowledged; want some hundred", len(acknowledged))
	}
}
