package trust

import "path"

// Join returns the environment of a further program of a run that is under
// way: o.Env with the variables that Build gave to the run's first program, and
// without those that it took away. o.Root leads to the files as that program
// sees them, o.Dir is what Build was given. It asks the covered files
// themselves what Build had decided, so that neither the state of the host by
// now nor that program's environment counts. o.CA is not looked at.
//
// Roots of the user's that o.Env names and the run's own environment did not
// are not trusted: what the run's programs trust was settled when it started.
//
// ErrNoRun says that no file there holds a run's CA. The environment is good
// all the same; nothing in it leads to a CA.
func Join(o Options) ([]string, error) {
	b := &builder{Options: o, root: rooted(o.Root), plan: &Plan{root: rooted(o.Root)}}
	p := b.plan
	for _, dir := range b.directories() {
		if b.lastCA(path.Join(dir, anchorName)) != nil {
			p.dirs = append(p.dirs, dir)
		}
	}
	places := bundles
	for _, dir := range p.dirs {
		places = append(places[:len(places):len(places)], path.Join(dir, bundleName))
	}
	if o.Dir != "" {
		places = append(places[:len(places):len(places)], path.Join(o.Dir, bundleName))
	}
	for _, name := range places {
		if b.lastCA(name) != nil {
			p.Bundle = name
			break
		}
	}
	b.environment()
	if p.Bundle == "" {
		return p.Env, ErrNoRun
	}
	return p.Env, nil
}
