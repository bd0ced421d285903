// SPDX-License-Identifier: GPL-2.0-only
// From a SIPI: puts the CPU into a state, in any mode, and goes to one instruction.
//
// It lies in the state's own memory, where no operand lies; loader.py fills in the values that
// stand at its end. Offsets are from that memory's first byte, where CS begins after the SIPI.

#define BASE 0x8000
#define OFFSET(label) (label - start)
#define LINEAR(label) (BASE + OFFSET(label))

        .text
        .code16
start:
        jmp     load

        .org    0x4000
instruction:

        .org    0x4100
load:
        cli
        lgdtl   %cs:OFFSET(own_gdt)
        cmpl    $0, %cs:OFFSET(switches)
        je      final16
        movl    $0x11, %eax                     // CR0.ET and PE
        movl    %eax, %cr0
        ljmpl   $0x60, $LINEAR(flat)

        .code32
flat:
        movw    $0x68, %ax
        movw    %ax, %ds
        movl    LINEAR(cr4), %eax
        movl    %eax, %cr4
        movl    LINEAR(cr3), %eax
        movl    %eax, %cr3
        movl    LINEAR(efer), %eax
        xorl    %edx, %edx
        movl    $0xC0000080, %ecx               // IA32_EFER
        wrmsr
        movl    LINEAR(cr0), %eax
        movl    %eax, %cr0
        testl   %eax, %eax
        js      active                          // CR0.PG: long mode
        ljmpl   *LINEAR(final)
active:
        ljmpl   $0x70, $LINEAR(wide)

        .code64
wide:
        movq    r8(%rip), %r8
        movq    r9(%rip), %r9
        movq    r10(%rip), %r10
        movq    r11(%rip), %r11
        movq    r12(%rip), %r12
        movq    r13(%rip), %r13
        movq    r14(%rip), %r14
        movq    r15(%rip), %r15
        ljmpl   *final(%rip)

// The last part of 16- and 32-bit code. `origin`: linear address of offset 0, less CS.base.
        .macro  load_all origin
        movw    %cs:\origin + OFFSET(stack), %ss
        movl    $\origin + OFFSET(rflags), %esp
        popfl
        .irp    name, ds, es, fs, gs, ss
        movw    %cs:\origin + OFFSET(\name), %\name
        .endr
        lgdtl   %cs:\origin + OFFSET(gdtr)
        lidtl   %cs:\origin + OFFSET(idtr)
        movl    %cs:\origin + OFFSET(cr0), %eax
        movl    %eax, %cr0
        .irp    name, ax, bx, cx, dx, si, di, bp, sp
        movl    %cs:\origin + OFFSET(r\name), %e\name
        .endr
        jmp     instruction
        .endm

        .code16
final16:
        load_all 0

        .code32
final32:
        load_all BASE

        .code64
final64:
        movw    stack(%rip), %ss
        leaq    rflags(%rip), %rsp
        popfq
        movw    ds(%rip), %ds
        movw    es(%rip), %es
        movw    fs(%rip), %fs
        movw    gs(%rip), %gs
        movw    ss(%rip), %ss
        lgdt    gdtr(%rip)
        lidt    idtr(%rip)
        movq    rax(%rip), %rax
        movq    rbx(%rip), %rbx
        movq    rcx(%rip), %rcx
        movq    rdx(%rip), %rdx
        movq    rsi(%rip), %rsi
        movq    rdi(%rip), %rdi
        movq    rbp(%rip), %rbp
        movq    rsp(%rip), %rsp
        jmp     instruction

        .balign 8
        .irp name, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi
\name:  .quad   0
        .endr
        .irp name, r8, r9, r10, r11, r12, r13, r14, r15
\name:  .quad   0
        .endr
        .irp name, rflags, cr0, cr3, cr4, efer, switches, ds, es, fs, gs, ss, stack, final, gdtr, idtr
\name:  .skip   16
        .endr
own_gdt:
        .word   8 * 15 - 1
        .long   LINEAR(descriptors)
        .balign 8
descriptors:
        .skip   8 * 11
own_descriptors:
        .quad   0x000093008000FFFF              // 0x58: data, 64 KiB from BASE on
        .quad   0x00CF9B000000FFFF              // 0x60: code, 32 bits, flat
        .quad   0x00CF93000000FFFF              // 0x68: data, flat
        .quad   0x00AF9B000000FFFF              // 0x70: code, 64 bits
end:
