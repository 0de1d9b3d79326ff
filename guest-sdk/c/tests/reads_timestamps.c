/* Compiles unless timestamps are declared unread. */
#include <floodmark.h>

size_t read_it(const fm_record *record);
size_t read_it(const fm_record *record) { return (size_t)record->timestamp; }
