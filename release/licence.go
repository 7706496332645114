package main

import "strings"

// A phrase stands in the text of one licence and of no other.
type phrase struct {
	id   string
	all  []string // all of these
	none []string // and none of these
}

// Phrases as they are in the licences' texts, in lower case and with single spaces.
var phrases = []phrase{
	{"Apache-2.0", []string{"apache license version 2.0, january 2004"}, nil},
	{"MPL-2.0", []string{"mozilla public license version 2.0"}, nil},
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy", "the above copyright notice and this permission notice"}, nil},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "redistributions in binary form", "endorse or promote products"}, nil},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms", "redistributions in binary form"}, []string{"endorse or promote products"}},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice"}, nil},
	{"ISC", []string{"permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice"}, nil},
	{"blessing", []string{"may you do good and not evil"}, nil},
	{"CC0-1.0", []string{"cc0 1.0 universal"}, nil},
	{"Unlicense", []string{"this is free and unencumbered software released into the public domain"}, nil},
}

// identify names the licences whose text is in text. What only belongs to one (a
// notice, a grant of patents) has no name.
func identify(text string) (ids []string) {
	text = strings.Join(strings.Fields(strings.ToLower(strings.NewReplacer("//", " ", "*", " ", "#", " ").Replace(text))), " ")
	for _, p := range phrases {
		if holds(text, p) {
			ids = append(ids, p.id)
		}
	}
	return ids
}

func holds(text string, p phrase) bool {
	for _, s := range p.all {
		if !strings.Contains(text, s) {
			return false
		}
	}
	for _, s := range p.none {
		if strings.Contains(text, s) {
			return false
		}
	}
	return true
}
