/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The host image: the machine's whole firmware, 64 KiB that end at 4 GiB.
 *
 * CPU 0 goes from the reset vector straight to long mode and then obeys commands that Python leaves in
 * CONTROL. CPU 1 is the target CPU: nothing but INIT-SIPI-SIPI ever starts it, in the job's image or, for
 * a hand-over in 64-bit mode, in entry64.S.
 *
 *   0x0000000000 .. 0x000009ffff  free: image, kernel, boot_params
 *   0x00000f0000 .. 0x00000fffff  this image once more: the CPU's way to entry64.S
 *   0x0000100000 .. 0x00cfffffff  free: kernel, boot_params
 *   0x00d0000000 .. 0x00d07fffff  the machine's own: control, report, stack, IDT, staging (protocol.h)
 *   0x00fee00000                  local APIC
 *   0x00ffff0000 .. 0x00ffffffff  this image; its page tables lie in it, too
 *   0x0100000000 ..               free: the sparse DIMM
 *
 * Nothing below 1 MiB is the host's. RAM outlives a reset, and so does the CMOS: after a triple fault
 * of CPU 1 the machine comes through here again, counts one more boot, and takes the next command.
 */
#include "protocol.h"

#define CODE32          0x08
#define CODE64          0x10
#define DATA            0x18

#define CR0_PE_ET       0x11
#define CR0_PG          0x80000000
#define CR4_PAE         0x20
#define CR4_LA57        0x1000
#define MSR_EFER        0xC0000080
#define EFER_LME        0x100
#define CPUID_FEATURES  0x80000001      /* SDM 2, CPUID: EDX has Page1GB in this bit */
#define CPUID_1_GIB_PAGES 26

/* SDM 3A 11.4.1 (register map), 11.5.1 (LVT), 11.6.1 (ICR). */
#define APIC_EOI        0x0B0
#define APIC_SPURIOUS   0x0F0
#define APIC_ICR_LOW    0x300
#define APIC_ICR_HIGH   0x310
#define APIC_LVT_TIMER  0x320
#define APIC_COUNT      0x380
#define APIC_DIVIDE     0x3E0
#define ICR_INIT        0x4500
#define ICR_STARTUP     0x4600
#define TARGET_APIC_ID  1
#define TIMER_VECTOR    0x20
#define NAP_SHORTEST    100000          /* 100 us: QEMU's APIC timer counts nanoseconds */
#define NAP_LONGEST     3200000
#define SPINS           300             /* looks at the doorbell before the first nap */

#define AT(label)       (ROM_BASE + (label) - rom)

        .text
rom:
/* 0 .. 2 TiB mapped to itself. Accessed and dirty are set: the CPU need not write to the ROM. */
pml4:   .quad   AT(pdpt) + 0x0023, AT(pdpt) + 0x1023, AT(pdpt) + 0x2023, AT(pdpt) + 0x3023
        .fill   508, 8, 0
pdpt:   .set    gib, 0
        .rept   2048
        .quad   (gib << 30) + 0xE3      /* 1 GiB page, dirty, accessed, writable, present */
        .set    gib, gib + 1
        .endr
pml5:   .quad   AT(pml4) + 0x0023       /* for the target CPU */
        .fill   511, 8, 0

gdt:    .quad   0, 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   AT(gdt)
idt_pointer:
        .word   (TIMER_VECTOR + 1) * 16 - 1
        .quad   HOST_IDT

        .code16
start16:
        cli
        lgdtl   %cs:(gdt_pointer - rom)
        mov     $CR0_PE_ET, %eax
        mov     %eax, %cr0
        ljmpl   $CODE32, $AT(start32)

        .code32
start32:
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     $CPUID_FEATURES, %eax
        cpuid
        mov     $AT(pml4), %eax
        bt      $CPUID_1_GIB_PAGES, %edx
        jc      1f
        mov     $HOST_TABLES, %eax
1:      mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        xor     %edx, %edx
        mov     $EFER_LME, %eax
        wrmsr
        mov     $(CR0_PG | CR0_PE_ET), %eax
        mov     %eax, %cr0
        ljmp    $CODE64, $AT(start64)

        .code64
start64:
        cld
        mov     $HOST_STACK_TOP, %esp
        mov     $CONTROL, %ebx
        mov     $LOCAL_APIC, %ebp

        /* One interrupt only: the local APIC's timer, to wake CPU 0 from a nap. */
        mov     $0xFF, %al
        out     %al, $0x21              /* both 8259 masked */
        out     %al, $0xA1
        mov     $(HOST_IDT + TIMER_VECTOR * 16), %edi
        mov     $AT(timer), %eax
        mov     %ax, (%rdi)
        movw    $CODE64, 2(%rdi)
        movw    $0x8E00, 4(%rdi)        /* present interrupt gate, no IST */
        shr     $16, %eax
        mov     %ax, 6(%rdi)
        movq    $0, 8(%rdi)
        lidt    idt_pointer(%rip)
        movl    $0x1FF, APIC_SPURIOUS(%rbp)
        movl    $0xB, APIC_DIVIDE(%rbp)
        movl    $TIMER_VECTOR, APIC_LVT_TIMER(%rbp)

        call    fetch_arrival
        incq    BOOTS(%rbx)

/*
 * Wait for a command: look often for a while, then nap, longer each time. Interrupts are on in `hlt` alone, so that none
 * comes between a look and the nap after it.
 */
wait:   mov     $SPINS, %ecx
look:   mov     DOORBELL(%rbx), %rdx
        cmp     TAKEN(%rbx), %rdx
        jne     obey
        pause
        dec     %ecx
        jnz     look
        mov     $NAP_SHORTEST / 2, %r10d
nap:    cmp     $NAP_LONGEST, %r10d
        jae     1f
        add     %r10d, %r10d
1:      mov     %r10d, APIC_COUNT(%rbp)
        sti
        hlt
        cli
        mov     DOORBELL(%rbx), %rdx
        cmp     TAKEN(%rbx), %rdx
        je      nap

/* RDX: number of the command. INIT first: from here on CPU 1 waits for a SIPI and touches nothing. */
obey:   movl    $(TARGET_APIC_ID << 24), APIC_ICR_HIGH(%rbp)
        movl    $ICR_INIT, APIC_ICR_LOW(%rbp)
        pause                           /* CPU 1's turn: it takes the INIT */
        cmpq    $COMMAND_RUN, COMMAND(%rbx)
        je      run
        cmpq    $COMMAND_ENTER, COMMAND(%rbx)
        je      enter
        call    fetch_arrival
        mov     %rdx, TAKEN(%rbx)
        jmp     wait

enter:  mov     %rdx, TAKEN(%rbx)
        jmp     *ENTRY(%rbx)

run:    mov     $CMOS_ARRIVAL, %al
        out     %al, $CMOS_INDEX
        mov     $NOT_ARRIVED, %al
        out     %al, $CMOS_DATA

        lea     COPIES(%rbx), %r8
        mov     COPY_COUNT(%rbx), %r9
copy:   sub     $1, %r9
        jb      start
        mov     (%r8), %rsi
        mov     8(%r8), %rdi
        mov     16(%r8), %rcx
        shr     $3, %rcx
        rep movsq
        mov     16(%r8), %rcx
        and     $7, %ecx
        rep movsb
        add     $24, %r8
        jmp     copy

/* Taken before the SIPI: should CPU 1 reset the machine at once, the command must not run again. */
start:  mov     %rdx, TAKEN(%rbx)
        mov     SIPI_VECTOR(%rbx), %eax
        or      $ICR_STARTUP, %eax
        movl    $(TARGET_APIC_ID << 24), APIC_ICR_HIGH(%rbp)
        mov     %eax, APIC_ICR_LOW(%rbp)
        pause
        mov     %eax, APIC_ICR_LOW(%rbp)
        jmp     wait

fetch_arrival:
        mov     $CMOS_ARRIVAL, %al
        out     %al, $CMOS_INDEX
        in      $CMOS_DATA, %al
        movzbl  %al, %eax
        mov     %rax, ARRIVED(%rbx)
        ret

timer:  movl    $0, APIC_EOI(%rbp)
        iretq

#include "entry64.S"

        .org    0xFFF0, 0xF4            /* the reset vector (SDM 3A 10.1.4) */
        .code16
        jmp     start16
        .org    0x10000, 0xF4
