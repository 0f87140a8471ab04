package healthprobe

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"eventhooks/internal/hook"
)

const (
	// maxTargets is how many targets one process is meant to probe in a run.
	maxTargets = 1000
	// maxInvokes is the number of parts that are being handed over at once.
	maxInvokes = 10
)

// contains reports whether an upstream belongs to a part.
func contains(part hook.UpstreamRange, id string) bool {
	return id >= part.From && (part.To == "" || id < part.To)
}

// cut returns parts of at most limit targets each, in which each possible id
// belongs to exactly one: also one of an upstream that is not there yet, or no
// longer. plans are in the order of their ids. An upstream is never divided:
// one that has more targets by itself is alone with ids that have none.
func cut(plans []plan, limit int) []hook.UpstreamRange {
	parts := []hook.UpstreamRange{{}}
	n := 0
	for _, p := range plans {
		if n > 0 && n+len(p.targets) > limit {
			parts[len(parts)-1].To = p.ID
			parts = append(parts, hook.UpstreamRange{From: p.ID})
			n = 0
		}
		n += len(p.targets)
	}
	return parts
}

// invoke hands each part to another process.
func (s *Service) invoke(ctx context.Context, parts []hook.UpstreamRange) error {
	errs := make([]error, len(parts))
	places := make(chan struct{}, maxInvokes)
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() {
			defer take(places)()
			if err := s.o.Shards.Invoke(ctx, part); err != nil {
				errs[i] = fmt.Errorf("hand over upstreams from %q to %q: %w", part.From, part.To, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
