package healthprobe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	lookupTimeout = 5 * time.Second
	// maxAddresses bounds what one name may stand for.
	maxAddresses = 64
)

// names resolves each name once in a run, however many targets carry it.
type names struct {
	resolver Resolver
	mu       sync.Mutex
	seen     map[string]*lookup
}

type lookup struct {
	done  chan struct{}
	addrs []netip.Addr
	err   error // in words, for a person
	took  time.Duration
}

// find returns the addresses of a host, in order: its IPv4 addresses or, when
// it has none, its IPv6 addresses. That is Kong's order, and a function
// without IPv6 would otherwise see half of every such target down.
func (n *names) find(ctx context.Context, host string) *lookup {
	n.mu.Lock()
	l, known := n.seen[host]
	if !known {
		l = &lookup{done: make(chan struct{})}
		n.seen[host] = l
	}
	n.mu.Unlock()
	if known {
		<-l.done
		return l
	}
	defer close(l.done)
	if addr, err := netip.ParseAddr(host); err == nil {
		l.addrs = []netip.Addr{addr.Unmap()}
		return l
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	began := time.Now()
	found, err := n.resolver.LookupNetIP(ctx, "ip", host)
	l.took = time.Since(began)
	if err != nil {
		l.err = lookupError(err)
		return l
	}
	var four, six []netip.Addr
	for _, a := range found {
		if a = a.Unmap().WithZone(""); a.Is4() {
			four = append(four, a)
		} else if a.IsValid() {
			six = append(six, a)
		}
	}
	if len(four) == 0 {
		four = six
	}
	slices.SortFunc(four, netip.Addr.Compare)
	four = slices.Compact(four)
	if len(four) == 0 {
		l.err = errors.New("name has no address")
		return l
	}
	l.addrs = four[:min(len(four), maxAddresses)]
	return l
}

func lookupError(err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return errors.New("name does not resolve")
		case dns.IsTimeout:
			return errors.New("the name server does not answer")
		}
		return errors.New("the name server reports a failure")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the name server does not answer")
	}
	return errors.New("name does not resolve")
}
