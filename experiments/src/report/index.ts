/** Reports on runs: reading their folders, and pages and tables from them. */

export { type Run, readRun } from './read.ts';
export { type Format, type ReportOptions, type Written, writeReport } from './write.ts';
