// Package screens is for tests that look at screens as a person does: those of package browser use the dashboard in Chromium, those of
// package terminal the commands in a terminal. It is a module of its own, so that users of the root module do not get what drives them.
package screens
