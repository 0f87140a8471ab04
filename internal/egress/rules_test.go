package egress_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
)

// sealed returns a client of which no packet leaves: what its rules let
// through, the test hears of and refuses.
func sealed(t *testing.T, o egress.Options) (c *egress.Client, passed func() []string) {
	t.Helper()
	c, err := egress.New(o)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string
	c.SetBackstop(func(address string) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, address)
		return errors.New("no packet leaves a test")
	})
	return c, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), seen...)
	}
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	if len(all) < 20 {
		t.Fatalf("%s holds %d lines; it should hold many", name, len(all))
	}
	return all
}

func hostOf(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + strings.ReplaceAll(ip, "%", "%25") + "]"
	}
	return ip
}

// what calls an address with secrets in every place that an error must not
// show.
func get(host string) hook.Request {
	return hook.Request{
		Method: "POST", URL: "http://" + host + "/services/SECRET?token=SECRET#SECRET",
		Headers: map[string][]string{"Authorization": {"SECRET"}}, Body: []byte("SECRET"),
	}
}

func TestClient_refusesTheCorpus(t *testing.T) {
	// Whoever allows everything still does not get what is never allowed.
	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	neverAllowed := map[string]bool{
		"unspecified": true, "loopback": true, "link-local or metadata": true, "cloud metadata": true,
		"multicast": true, "broadcast": true, "scoped": true,
	}
	strict, passed := sealed(t, egress.Options{})
	open, opened := sealed(t, egress.Options{AllowPrivate: everything})
	local, _ := sealed(t, egress.Options{AllowLoopback: true})
	for _, line := range lines(t, "testdata/refused.txt") {
		ip, class, _ := strings.Cut(line, " ")
		class = strings.TrimSpace(class)
		answer, err := strict.Do(t.Context(), get(hostOf(ip)), egress.Call{Timeout: 5 * time.Second})
		blocked, ok := errors.AsType[*egress.BlockedError](err)
		if !ok || blocked.Class != class {
			t.Errorf("Do(%s) = %v; want a refusal of a %s address", ip, err, class)
			continue
		}
		if answer.IP != "" || answer.Code != 0 {
			t.Errorf("Do(%s) tells IP %q, status %d of a refused target", ip, answer.IP, answer.Code)
		}
		if text := err.Error(); strings.Contains(text, "SECRET") || strings.Contains(text, ip) {
			t.Errorf("Do(%s): the error shows too much: %s", ip, text)
		}
		if r := strict.Probe(t.Context(), hook.Probe{Type: "http", IP: ip, Port: 80}); r.Fault != hook.FaultBlocked {
			t.Errorf("Probe(%s) = %+v; want fault blocked", ip, r)
		}
		addr := netip.MustParseAddr(ip)
		if err := strict.Judge(netip.AddrPortFrom(addr, 443)); err == nil {
			t.Errorf("Judge(%s) lets it through", ip)
		}

		_, err = open.Do(t.Context(), get(hostOf(ip)), egress.Call{Timeout: 5 * time.Second})
		if _, ok := errors.AsType[*egress.BlockedError](err); ok != neverAllowed[class] {
			t.Errorf("with everything allowed, Do(%s) = %v; want refused: %t", ip, err, neverAllowed[class])
		}
		if plain := addr.Unmap(); neverAllowed[class] && !plain.IsLoopback() {
			if err := local.Judge(netip.AddrPortFrom(addr, 80)); err == nil {
				t.Errorf("local mode lets %s through", ip)
			}
		}
	}
	if got := passed(); len(got) != 0 {
		t.Errorf("the strict client let through %q", got)
	}
	for _, a := range opened() {
		if ap := netip.MustParseAddrPort(a); ap.Addr().IsLoopback() || ap.Addr().IsLinkLocalUnicast() {
			t.Errorf("with everything allowed, %s was let through", a)
		}
	}
}

func TestClient_refusesOddSpellings(t *testing.T) {
	resolver := fakeDNS(t, func(name string, _ bool) []netip.Addr {
		if name == "rebound.example.test." {
			return []netip.Addr{netip.MustParseAddr("169.254.169.254")}
		}
		return nil
	})
	for _, allow := range []string{"", "0.0.0.0/0"} {
		o := egress.Options{Resolver: resolver}
		if allow != "" {
			o.AllowPrivate = []netip.Prefix{netip.MustParsePrefix(allow)}
		}
		c, passed := sealed(t, o)
		for _, host := range lines(t, "testdata/spellings.txt") {
			_, err := c.Do(t.Context(), get(host), egress.Call{Timeout: 5 * time.Second})
			if err == nil {
				t.Errorf("Do(%s) got an answer", host)
				continue
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("Do(%s): the error shows too much: %v", host, err)
			}
		}
		for _, a := range passed() {
			// With 0.0.0.0/0 allowed, the operator asked for private ones.
			ap := netip.MustParseAddrPort(a)
			if allow == "" || !ap.Addr().IsPrivate() {
				t.Errorf("AllowPrivate %q: %s was let through", allow, a)
			}
		}
	}
}

func TestClient_letsThrough(t *testing.T) {
	allow := func(p ...string) (all []netip.Prefix) {
		for _, s := range p {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	tests := []struct {
		name string
		o    egress.Options
		addr string
		want bool
	}{
		{"a public address", egress.Options{}, "93.184.216.34:443", true},
		{"a public address on any port", egress.Options{}, "93.184.216.34:8443", true},
		{"a public IPv6 address", egress.Options{}, "[2606:2800:220:1::1]:443", true},
		{"a mapped public address", egress.Options{}, "[::ffff:93.184.216.34]:443", true},
		{"a private address of an allowed range", egress.Options{AllowPrivate: allow("10.1.0.0/16")}, "10.1.2.3:80", true},
		{"its mapped spelling", egress.Options{AllowPrivate: allow("10.1.0.0/16")}, "[::ffff:10.1.2.3]:80", true},
		{"its range in mapped spelling", egress.Options{AllowPrivate: allow("::ffff:10.1.0.0/112")}, "10.1.2.3:80", true},
		{"a private address of another range", egress.Options{AllowPrivate: allow("10.1.0.0/16")}, "10.2.2.3:80", false},
		{"a range with host bits set", egress.Options{AllowPrivate: allow("10.1.2.3/16")}, "10.1.9.9:80", true},
		{"an allowed unique local address", egress.Options{AllowPrivate: allow("fd12::/16")}, "[fd12::1]:80", true},
		{"metadata inside an allowed unique local range", egress.Options{AllowPrivate: allow("fd00::/8")}, "[fd00:ec2::254]:80", false},
		{"a translator's range, allowed, to a public address", egress.Options{AllowPrivate: allow("64:ff9b::/96")}, "[64:ff9b::8.8.8.8]:80", true},
		{"a translator's range, allowed, to a private address", egress.Options{AllowPrivate: allow("64:ff9b::/96")}, "[64:ff9b::10.0.0.1]:80", false},
		{"a translator's range and the private range, both allowed", egress.Options{AllowPrivate: allow("64:ff9b::/96", "10.0.0.0/8")}, "[64:ff9b::10.0.0.1]:80", true},
		{"a translator's range, allowed, to the metadata service", egress.Options{AllowPrivate: allow("64:ff9b::/96")}, "[64:ff9b::169.254.169.254]:80", false},
		{"a local translator's range, allowed, to a public address", egress.Options{AllowPrivate: allow("64:ff9b:1::/48")}, "[64:ff9b:1::8.8.8.8]:80", true},
		{"loopback in production", egress.Options{AllowPrivate: allow("127.0.0.0/8", "::1/128")}, "127.0.0.1:80", false},
		{"loopback in local mode", egress.Options{AllowLoopback: true}, "127.0.0.1:80", true},
		{"another loopback address in local mode", egress.Options{AllowLoopback: true}, "127.9.9.9:80", true},
		{"IPv6 loopback in local mode", egress.Options{AllowLoopback: true}, "[::1]:80", true},
		{"mapped loopback in local mode", egress.Options{AllowLoopback: true}, "[::ffff:127.0.0.1]:80", true},
		{"loopback inside a translator's address in local mode", egress.Options{AllowLoopback: true, AllowPrivate: allow("64:ff9b::/96")}, "[64:ff9b::127.0.0.1]:80", false},
		{"0.0.0.0, which the kernel takes for loopback, in local mode", egress.Options{AllowLoopback: true}, "0.0.0.0:80", false},
		{"a private address in local mode", egress.Options{AllowLoopback: true}, "10.0.0.1:80", false},
		{"its own address", egress.Options{AllowLoopback: true, DenyAddrs: own("127.0.0.1:8080")}, "127.0.0.1:8080", false},
		{"its own address, mapped", egress.Options{AllowLoopback: true, DenyAddrs: own("127.0.0.1:8080")}, "[::ffff:127.0.0.1]:8080", false},
		{"another port of its own address", egress.Options{AllowLoopback: true, DenyAddrs: own("127.0.0.1:8080")}, "127.0.0.1:8081", true},
		{"its own port when it listens everywhere", egress.Options{AllowLoopback: true, DenyAddrs: own("0.0.0.0:8080")}, "127.0.0.1:8080", false},
		{"its own port on IPv6 when it listens everywhere", egress.Options{AllowLoopback: true, DenyAddrs: own("[::]:8080")}, "[::1]:8080", false},
		{"its own port on an allowed private address when it listens everywhere", egress.Options{AllowLoopback: true, AllowPrivate: allow("10.0.0.0/8"), DenyAddrs: own("[::]:8080")}, "10.0.0.1:8080", false},
		{"its own port number on a public address", egress.Options{AllowLoopback: true, DenyAddrs: own("0.0.0.0:8080")}, "93.184.216.34:8080", true},
		{"its own public address", egress.Options{DenyAddrs: own("93.184.216.34:8080")}, "93.184.216.34:8080", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := egress.New(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Judge(netip.MustParseAddrPort(tt.addr)); (err == nil) != tt.want {
				t.Errorf("Judge(%s) = %v; want let through: %t", tt.addr, err, tt.want)
			}
		})
	}
}

func own(a string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(a)} }

func TestNew_refusesSenselessOptions(t *testing.T) {
	for name, o := range map[string]egress.Options{
		"an invalid prefix":            {AllowPrivate: []netip.Prefix{{}}},
		"a prefix of both families":    {AllowPrivate: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:0.0.0.0"), 90)}},
		"an invalid address to refuse": {DenyAddrs: []netip.AddrPort{{}}},
	} {
		if _, err := egress.New(o); err == nil {
			t.Errorf("New with %s succeeded", name)
		}
	}
}

func TestClient_judgesEveryDial(t *testing.T) {
	var mu sync.Mutex
	answers := map[string][]string{}
	resolver := fakeDNS(t, func(name string, six bool) []netip.Addr {
		mu.Lock()
		defer mu.Unlock()
		var found []netip.Addr
		for _, s := range answers[name] {
			if a := netip.MustParseAddr(s); a.Is6() == six {
				found = append(found, a)
			}
		}
		return found
	})
	set := func(name string, to ...string) {
		mu.Lock()
		defer mu.Unlock()
		answers[name] = to
	}

	t.Run("a name that is rebound is judged by its new address", func(t *testing.T) {
		c, passed := sealed(t, egress.Options{Resolver: resolver})
		set("hooks.example.test.", "93.184.216.34")
		_, err := c.Do(t.Context(), get("hooks.example.test"), egress.Call{})
		if _, blocked := errors.AsType[*egress.BlockedError](err); blocked || err == nil {
			t.Fatalf("Do = %v; want the public address to pass the rules", err)
		}
		if got := passed(); len(got) != 1 || got[0] != "93.184.216.34:80" {
			t.Fatalf("let through %q; want 93.184.216.34:80", got)
		}
		set("hooks.example.test.", "169.254.169.254")
		_, err = c.Do(t.Context(), get("hooks.example.test"), egress.Call{})
		if blocked, ok := errors.AsType[*egress.BlockedError](err); !ok || blocked.Class != egress.ClassLinkLocal {
			t.Errorf("Do = %v; want a refusal", err)
		}
		if got := passed(); len(got) != 1 {
			t.Errorf("let through %q after the rebinding", got)
		}
	})
	t.Run("of a name with public and private addresses only the public ones are dialled, and it is not refused", func(t *testing.T) {
		c, passed := sealed(t, egress.Options{Resolver: resolver})
		set("mixed.example.test.", "10.0.0.1", "93.184.216.34", "fd00:ec2::254", "::ffff:127.0.0.1")
		_, err := c.Do(t.Context(), get("mixed.example.test"), egress.Call{})
		if _, blocked := errors.AsType[*egress.BlockedError](err); blocked || err == nil {
			t.Errorf("Do = %v; want a failure that may be tried again", err)
		}
		if got := passed(); len(got) != 1 || got[0] != "93.184.216.34:80" {
			t.Errorf("let through %q; want only 93.184.216.34:80", got)
		}
	})
	t.Run("a name of refused addresses only is refused", func(t *testing.T) {
		c, passed := sealed(t, egress.Options{Resolver: resolver})
		set("inside.example.test.", "10.0.0.1", "192.168.0.1", "fd12::1")
		_, err := c.Do(t.Context(), get("inside.example.test"), egress.Call{})
		if _, blocked := errors.AsType[*egress.BlockedError](err); !blocked {
			t.Errorf("Do = %v; want a refusal", err)
		}
		if got := passed(); len(got) != 0 {
			t.Errorf("let through %q", got)
		}
	})
	t.Run("a name that is nowhere is said so", func(t *testing.T) {
		c, _ := sealed(t, egress.Options{Resolver: resolver})
		_, err := c.Do(t.Context(), get("nowhere.example.test"), egress.Call{})
		if err == nil || err.Error() != "name does not resolve" {
			t.Errorf("Do = %v; want: name does not resolve", err)
		}
	})
	t.Run("the environment's proxy is not asked", func(t *testing.T) {
		t.Setenv("HTTP_PROXY", "http://127.0.0.1:1/")
		t.Setenv("http_proxy", "http://127.0.0.1:1/")
		c, passed := sealed(t, egress.Options{Resolver: resolver})
		set("hooks.example.test.", "93.184.216.34")
		_, _ = c.Do(t.Context(), get("hooks.example.test"), egress.Call{})
		if got := passed(); len(got) != 1 || got[0] != "93.184.216.34:80" {
			t.Errorf("let through %q; want 93.184.216.34:80", got)
		}
	})
}

// fakeDNS is a name server on loopback that knows what answer says, and the
// resolver that asks only it.
func fakeDNS(t *testing.T, answer func(name string, six bool) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := dnsReply(buf[:n], answer); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
	address := conn.LocalAddr().String()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", address)
	}}
}

// dnsReply answers a question of one name; RFC 1035, section 4.
func dnsReply(q []byte, answer func(name string, six bool) []netip.Addr) []byte {
	if len(q) < 12 {
		return nil
	}
	var name strings.Builder
	at := 12
	for at < len(q) && q[at] != 0 {
		n := int(q[at])
		if at+1+n > len(q) {
			return nil
		}
		name.Write(q[at+1 : at+1+n])
		name.WriteByte('.')
		at += 1 + n
	}
	if at+5 > len(q) {
		return nil
	}
	end := at + 5
	kind := binary.BigEndian.Uint16(q[at+1:])
	var found []netip.Addr
	if kind == 1 || kind == 28 {
		found = answer(strings.ToLower(name.String()), kind == 28)
	}
	known := len(answer(strings.ToLower(name.String()), kind != 28)) > 0 || len(found) > 0
	reply := append([]byte(nil), q[:end]...)
	reply[2], reply[3] = 0x81, 0x80
	if !known {
		reply[3] |= 3 // no such name
	}
	binary.BigEndian.PutUint16(reply[4:], 1)
	binary.BigEndian.PutUint16(reply[6:], uint16(len(found)))
	binary.BigEndian.PutUint32(reply[8:], 0)
	for _, a := range found {
		reply = append(reply, 0xc0, 12)
		reply = binary.BigEndian.AppendUint16(reply, kind)
		reply = append(reply, 0, 1, 0, 0, 0, 0)
		reply = binary.BigEndian.AppendUint16(reply, uint16(len(a.AsSlice())))
		reply = append(reply, a.AsSlice()...)
	}
	return reply
}
