// Package kongimport copies upstreams and targets from a Kong Admin API to that
// of Event Hooks, under Kong's ids, so that healthprobe watches what Kong
// balances. It may be run again and again: what is there already as Kong has it
// is left alone. It never deletes anything.
//
// Both sides are strangers to it: whatever they answer is bounded and is shown
// without control characters.
package kongimport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

// Options of Run.
type Options struct {
	Kong      string      // base URL of Kong's Admin API; required
	KongToken hook.Secret // sent as Kong-Admin-Token; zero: none is sent
	Workspace string      // of Kong's; "" is its default
	Tags      string      // "a,b" for upstreams with both, "a/b" for those with one of them; "" for all

	URL   string      // base URL of Event Hooks; required
	Token hook.Secret // of scope admin, or read for a dry run; required

	DryRun bool // write nothing, and print what would be done
	// Exact keeps zeros where Kong's checks are off. Without it such an upstream
	// is given the defaults of Event Hooks when it is made, and keeps what it
	// has when it is there.
	Exact bool

	Timeout time.Duration // of one request with its answer; default 30 s
	MaxList int           // bytes of all pages of one list; default 32 MB

	Out io.Writer // where the plan goes, line by line as it is done; required

	// Wait waits between the tries of a request; default a timer.
	Wait func(context.Context, time.Duration) error
}

// ErrIncomplete is wrapped by Run's error when everything was done but what is
// listed as refused.
var ErrIncomplete = errors.New("not everything was imported")

// Run imports. It prints a line for each upstream and one with totals. What is
// refused does not keep the rest from being imported: then the error wraps
// ErrIncomplete. Any other error is the reason why it stopped where it was; what
// was written by then stays, and the next run goes on from there.
func Run(ctx context.Context, o Options) error {
	im, err := newImporter(o)
	if err != nil {
		return err
	}
	if err := im.run(ctx); err != nil {
		if len(im.upstreams) > 0 {
			im.totals("until it stopped: ")
		}
		return err
	}
	im.totals("")
	upstreams, targets := im.upstreams[isRefused], im.targets[isRefused]
	var parts []string
	if upstreams > 0 {
		parts = append(parts, number(upstreams, "upstream"))
	}
	if targets > 0 {
		parts = append(parts, number(targets, "target"))
	}
	if len(parts) > 0 {
		return fmt.Errorf("%w: %s refused; the lines that begin with %q say why", ErrIncomplete, strings.Join(parts, " and "), isRefused)
	}
	return nil
}

func number(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// outcome is what became of an upstream or a target; it begins its line.
type outcome string

const (
	isCreated   outcome = "created"
	isUpdated   outcome = "updated"
	isUnchanged outcome = "unchanged"
	isSkipped   outcome = "skipped"
	isRefused   outcome = "refused"
	isOnlyHere  outcome = "only here"
)

var outcomes = []outcome{isCreated, isUpdated, isUnchanged, isSkipped, isRefused, isOnlyHere}

// intents are the outcomes that a dry run does not bring about.
var intents = map[outcome]string{isCreated: "create", isUpdated: "update"}

type importer struct {
	o          Options
	kong, ours *api
	here       map[string]entity // our upstreams by id, as they become
	names      map[string]string // their ids by name
	upstreams  map[outcome]int
	targets    map[outcome]int
}

func newImporter(o Options) (*importer, error) {
	kong, err := baseURL("--kong", o.Kong)
	if err != nil {
		return nil, err
	}
	ours, err := baseURL("--url", o.URL)
	if err != nil {
		return nil, err
	}
	if strings.ContainsRune(o.Workspace, '/') || o.Workspace == "." || o.Workspace == ".." {
		return nil, fmt.Errorf("--workspace: %s is no name of a workspace; give one as Kong lists it", shown(o.Workspace))
	}
	if o.Workspace != "" {
		kong = kong.JoinPath(url.PathEscape(o.Workspace))
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.MaxList == 0 {
		o.MaxList = 32 << 20
	}
	absent := "is --kong the Admin API? Its port is 8001 or 8444; that of the proxy, 8000 or 8443, answers like this"
	if o.Workspace != "" {
		absent = "is there a workspace of that name?"
	}
	unauthorized := "give a token with --kong-token or KONG_ADMIN_TOKEN"
	if !o.KongToken.IsZero() {
		unauthorized = "the token of --kong-token or KONG_ADMIN_TOKEN is not good there: give another"
	}
	both := api{client: newClient(), timeout: o.Timeout, maxList: o.MaxList, wait: o.Wait}
	im := &importer{
		o:    o,
		here: map[string]entity{}, names: map[string]string{},
		upstreams: map[outcome]int{}, targets: map[outcome]int{},
	}
	k, e := both, both
	k.name, k.flag, k.base, k.header, k.token = "Kong", "--kong", kong, "Kong-Admin-Token", o.KongToken
	k.hints = hints{
		down:         "start it, or name its Admin API with --kong",
		unauthorized: unauthorized,
		forbidden:    "give the token's user a role that reads upstreams and targets there",
		absent:       absent,
		foreign:      "is --kong the Admin API? Its port is 8001 or 8444, not that of Kong Manager or of the proxy",
	}
	e.name, e.flag, e.base, e.header, e.scheme, e.token = "Event Hooks", "--url", ours, "Authorization", "Bearer ", o.Token
	e.hints = hints{
		down:         "is `eventhooks local` running? Else name the API with --url",
		unauthorized: "the token of --token or EVENTHOOKS_TOKEN is not good there: give another",
		forbidden:    "give a token of scope admin; read is enough for --dry-run",
		absent:       "is --url the base URL of Event Hooks?",
		foreign:      "is --url the base URL of Event Hooks?",
	}
	im.kong, im.ours = &k, &e
	return im, nil
}

func (im *importer) run(ctx context.Context) error {
	query := url.Values{}
	if im.o.Tags != "" {
		query.Set("tags", im.o.Tags)
	}
	// Kong's whole list comes first: of half a list nobody could say what is
	// only here, or whose name is free.
	rows, err := im.kong.list(ctx, "/upstreams", query)
	if err != nil {
		return err
	}
	ours, err := im.ours.list(ctx, "/upstreams", nil)
	if err != nil {
		return err
	}
	for _, u := range entities(ours, "name") {
		im.here[u.id], im.names[u.name] = u, u.id
	}
	theirs := entities(rows, "name")
	waiting := map[string]string{} // names of Kong's that are still to come, by id
	listed := map[string]bool{}
	for _, u := range theirs {
		listed[u.id] = true
		if u.id != "" && u.row["use_srv_name"] != true {
			waiting[u.id] = u.name
		}
	}
	moves := func(u entity) bool { // another one has the name, and is about to give it up
		holder := im.names[u.name]
		next, comes := waiting[holder]
		return holder != u.id && comes && next != u.name
	}
	err = inTurn(theirs, moves, func(u entity) error {
		delete(waiting, u.id)
		return im.upstream(ctx, u)
	})
	if err != nil {
		return fmt.Errorf("%w; what comes after it was not looked at", err)
	}
	if im.o.Tags == "" {
		for _, id := range slices.Sorted(maps.Keys(im.here)) {
			if !listed[id] {
				im.upstreams[isOnlyHere]++
				im.line(isOnlyHere, im.here[id].name, "Kong does not list it; if nobody needs it, DELETE /upstreams/"+id)
			}
		}
	}
	return nil
}

// inTurn does what is to be done with each item, those that are blocked by one
// that is still to come after it. Where they block one another nobody waits.
func inTurn(items []entity, blocked func(entity) bool, do func(entity) error) error {
	for len(items) > 0 {
		var later []entity
		for _, item := range items {
			if blocked(item) {
				later = append(later, item)
				continue
			}
			if err := do(item); err != nil {
				return err
			}
		}
		if len(later) == len(items) {
			blocked = func(entity) bool { return false }
		}
		items = later
	}
	return nil
}

// upstream imports one with its targets. The error is one that ends the import.
func (im *importer) upstream(ctx context.Context, u entity) error {
	settle := func(o outcome, notes ...string) {
		im.upstreams[o]++
		im.line(o, cmp.Or(u.name, u.id, "one without a name"), notes...)
	}
	switch {
	case u.id == "":
		settle(isRefused, "id: not a UUID; look at what the Admin API answers")
		return nil
	case u.row["use_srv_name"] == true:
		settle(isSkipped, "use_srv_name: its targets are names of SRV records, which are not looked up here; add what they stand for by hand")
		return nil
	}
	p, err := im.plan(u)
	if err != nil {
		settle(isRefused, fault(err))
		return nil
	}
	theirs, ours, err := im.bothTargets(ctx, u.id)
	if err == nil && p.outcome != isUnchanged && !im.o.DryRun {
		_, err = im.ours.do(ctx, http.MethodPut, "/upstreams/"+u.id, nil, p.body)
	}
	if singular(err) {
		settle(isRefused, fault(err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("upstream %s: %w", shown(u.name), err)
	}
	delete(im.names, im.here[u.id].name)
	im.here[u.id], im.names[u.name] = u, u.id

	t := newTargets(im, u.id, theirs, ours)
	err = t.run(ctx)
	if p.outcome == isUnchanged {
		p.notes = nil // they were told when it was made
		if t.count[isCreated]+t.count[isUpdated] > 0 {
			p.outcome = isUpdated
		}
	}
	notes := append([]string{"targets: " + im.planned(t.count)}, p.notes...)
	if len(t.leftOut) > 0 && p.outcome != isUnchanged {
		notes = append(notes, "left out of targets: "+some(t.leftOut))
	}
	if len(t.onlyHere) > 0 {
		notes = append(notes, "targets that Kong does not list: "+some(t.onlyHere))
	}
	settle(p.outcome, notes...)
	for _, why := range t.reasons {
		im.line(isRefused, fmt.Sprintf("%s, target %s", u.name, some(t.refused[why])), why)
	}
	for o, n := range t.count {
		im.targets[o] += n
	}
	if err != nil {
		return fmt.Errorf("targets of upstream %s: %w", shown(u.name), err)
	}
	return nil
}

// plan is what is to be done with an upstream.
type plan struct {
	outcome outcome
	body    object   // of the PUT
	notes   []string // for who reads the plan
}

// plan compares one of Kong's with what is here. The error says why it cannot be
// imported.
func (im *importer) plan(u entity) (plan, error) {
	sent, leftOut := carry(u.row, upstreamFields(), kongDefaults(), "")
	checks := readChecks(sent)
	if checks.off && !im.o.Exact {
		dropZeros(sent)
	}
	want, err := asShown(sent, u.id, false)
	if err != nil {
		return plan{}, err
	}
	if holder := im.names[u.name]; holder != "" && holder != u.id {
		return plan{}, fmt.Errorf("name: upstream %s has it here already; rename or delete that one, then import again", holder)
	}
	p := plan{outcome: isCreated, body: sent}
	here, isHere := im.here[u.id]
	if isHere {
		p.outcome, p.body = isUnchanged, overlay(here.row, sent)
		changed := differences(sent, want, here.row, upstreamFields(), "")
		for _, name := range hiddenHeaders(sent) {
			changed = append(changed, "header "+name+", each time, because it cannot be read back to compare")
		}
		if len(changed) > 0 {
			p.outcome = isUpdated
			p.notes = append(p.notes, "changed: "+some(changed))
		}
	}
	d := schema.DefaultCheck()
	switch {
	case checks.off && im.o.Exact:
		p.notes = append(p.notes, "not watched, as in Kong: both intervals are 0")
	case checks.off && isHere:
		p.notes = append(p.notes, "off in Kong: intervals and thresholds stay as they are here")
	case checks.off:
		p.notes = append(p.notes, fmt.Sprintf("off in Kong, watched here: every %g s, %d in a row decide", d.HealthyInterval, d.Successes))
	case checks.blind:
		p.notes = append(p.notes, "never becomes unhealthy: all its thresholds of failures are 0, as in Kong")
	}
	if checks.grpc {
		p.notes = append(p.notes, "asked by gRPC's health protocol, which Kong does not do")
	}
	if i := slices.Index(leftOut, "client_certificate"); i >= 0 {
		leftOut[i] += " (probes show none)"
	}
	if len(leftOut) > 0 {
		p.notes = append(p.notes, "left out, as nothing here does it: "+strings.Join(leftOut, ", "))
	}
	return p, nil
}

// bothTargets returns the targets that Kong lists and those that are here.
func (im *importer) bothTargets(ctx context.Context, upstreamID string) (theirs, ours []entity, err error) {
	path := "/upstreams/" + upstreamID + "/targets"
	rows, err := im.kong.list(ctx, path, nil)
	if err != nil {
		return nil, nil, err
	}
	if _, isHere := im.here[upstreamID]; !isHere {
		return entities(rows, "target"), nil, nil
	}
	here, err := im.ours.list(ctx, path, nil)
	return entities(rows, "target"), entities(here, "target"), err
}

// line prints what became of one thing.
func (im *importer) line(o outcome, name string, notes ...string) {
	begin := string(o)
	if im.o.DryRun {
		begin = cmp.Or(intents[o], begin)
	}
	fmt.Fprintf(im.o.Out, "%-9s  %s: %s\n", begin, shown(name), strings.Join(notes, "; "))
}

func (im *importer) totals(when string) {
	if im.o.DryRun {
		when += "dry run, nothing was written; it would be: "
	}
	fmt.Fprintf(im.o.Out, "%supstreams: %s; targets: %s\n", when, counted(im.upstreams, nil), counted(im.targets, nil))
}

// planned is counted, of what a dry run leaves to be done.
func (im *importer) planned(n map[outcome]int) string {
	if im.o.DryRun {
		return counted(n, intents)
	}
	return counted(n, nil)
}

// counted says how many there were of what, "none" when there were none; those
// of intents are still to come.
func counted(n map[outcome]int, intents map[outcome]string) string {
	var parts []string
	for _, o := range outcomes {
		switch {
		case n[o] > 0 && intents[o] != "":
			parts = append(parts, fmt.Sprintf("%d to %s", n[o], intents[o]))
		case n[o] > 0:
			parts = append(parts, fmt.Sprintf("%d %s", n[o], o))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

// fault says why one thing is refused, and what to do.
func fault(err error) string {
	if _, ok := errors.AsType[*schema.Faults](err); ok {
		return shown(err.Error()) + "; change that in Kong, then import again"
	}
	return shown(err.Error())
}

// Bounds of a line.
const (
	maxShown = 600 // characters of one text
	maxNamed = 5   // of a list
)

// some lists the first few.
func some(list []string) string {
	more := ""
	if len(list) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(list)-maxNamed)
		list = list[:maxNamed]
	}
	return shown(strings.Join(list, ", ")) + more
}

// shown keeps a stranger's text from steering the terminal, and from filling it.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return s
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
