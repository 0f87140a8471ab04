package healthprobe

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// config is the copy of upstreams and targets that a feed keeps current.
type config struct {
	mu        sync.Mutex
	upstreams map[string]hook.Upstream
	targets   map[string]map[string]hook.Target // by upstream id and target key
	broken    map[string]error                  // by kind and id: what could not be read
}

// plan is one upstream with its targets, as the copy had it at one moment.
type plan struct {
	hook.Upstream
	targets []hook.Target // oldest first
	// version is the newest change of all its parts, and count their number:
	// together they differ whenever the plan does.
	version int64
	count   int
}

// Reset forgets everything.
func (c *config) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upstreams = map[string]hook.Upstream{}
	c.targets = map[string]map[string]hook.Target{}
	c.broken = map[string]error{}
}

// Apply takes over one record. One that cannot be read is remembered and does
// not keep the others from being probed: every run reports it until it is
// replaced.
func (c *config) Apply(r hook.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.broken, r.Kind+" "+r.ID)
	switch r.Kind {
	case hook.KindUpstream:
		delete(c.upstreams, r.ID)
		if r.Deleted {
			return nil
		}
		u, err := record.ToUpstream(r)
		if err != nil {
			c.broken[r.Kind+" "+r.ID] = err
			return nil
		}
		c.upstreams[u.ID] = u
	case hook.KindTarget:
		upstream, _, _ := cutKey(r.ID)
		delete(c.targets[upstream], r.ID)
		if r.Deleted {
			return nil
		}
		t, err := record.ToTarget(r)
		if err != nil {
			c.broken[r.Kind+" "+r.ID] = err
			return nil
		}
		if c.targets[upstream] == nil {
			c.targets[upstream] = map[string]hook.Target{}
		}
		c.targets[upstream][r.ID] = t
	default:
		return fmt.Errorf("apply %s %s: healthprobe does not watch this kind", r.Kind, r.ID)
	}
	return nil
}

// plans returns all upstreams in the order of their ids, and what could not be
// read.
func (c *config) plans() ([]plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]plan, 0, len(c.upstreams))
	for _, u := range c.upstreams {
		p := plan{Upstream: u, version: u.Changed, targets: make([]hook.Target, 0, len(c.targets[u.ID]))}
		for _, t := range c.targets[u.ID] {
			p.targets = append(p.targets, t)
			p.version = max(p.version, t.Changed)
		}
		p.count = len(p.targets)
		slices.SortFunc(p.targets, func(a, b hook.Target) int {
			return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
		})
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b plan) int { return cmp.Compare(a.ID, b.ID) })
	var errs []error
	for _, err := range c.broken {
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// cutKey splits what two ids, or an id and an address, were joined to.
func cutKey(key string) (before, after string, found bool) {
	for i := range len(key) {
		if key[i] == '/' {
			return key[:i], key[i+1:], true
		}
	}
	return key, "", false
}

// hostPort splits a target's host:port. An IPv6 host stands in brackets.
func hostPort(target string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(target)
	if err != nil {
		return "", 0, errors.New("target is not host:port")
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, errors.New("target is not host:port")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	}
	return host, int(n), nil
}
